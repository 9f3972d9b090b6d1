"""Which room may import which, which packages each may load, and that there are no import cycles."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from resnetlab.study import catalog

PACKAGE = Path(__file__).resolve().parents[1] / "resnetlab"
GROUND = {"errors", "provenance", "paths", "console", "commands", "wording", "durable", "builtin"}  # beside the rooms
ROOMS = {  # from the ground up: a room may import the rooms named here, and the ground
    "studies": set(),  # YAML alone
    "study": set(),
    "experiment": {"study"},
    "planning": {"study"},
    "storage": {"study"},
    "search": {"study", "storage"},
    "analysis": {"study", "experiment", "planning", "storage"},
    "sweep": {"study", "experiment", "planning", "storage", "search", "analysis"},
    "vision": {"study", "experiment", "storage"},
    "ray_backend": {"study", "experiment", "storage", "sweep", "vision"},
    "reproduction": {"study", "analysis"},
    "report": {"study", "experiment", "planning", "storage", "analysis", "reproduction"},
    "web": {"study", "storage", "analysis", "report"},
    "comparison": {"study", "planning", "storage", "analysis", "report"},
    "writeup": {"study", "planning", "storage", "analysis", "report"},
    "calibration": {"study", "experiment", "planning", "storage", "sweep", "analysis"},
    "tracking": {"study", "storage"},
    "driver": {"study", "experiment", "planning", "storage", "search", "sweep", "vision", "ray_backend", "analysis"},
}
ROOF = {"cli", "api", "__main__"}  # the commands and what `import resnetlab` gives: may import everything
TORCH = {"vision", "ray_backend", "driver", "cli"}  # rooms that may load torch
PACKAGES = {  # packages that only some rooms may name
    "torch": TORCH,
    "torchvision": {"vision"},
    "safetensors": {"vision"},
    "ray": {"ray_backend"},
    "optuna": {"search", "analysis"},  # analysis: the importance evaluators, imported when they are used
    "pandas": {"analysis", "report", "reproduction", "web", "comparison", "writeup", "calibration", "api"},
    "matplotlib": {"report", "comparison", "vision"},  # vision: the fonts that it ships
    "typer": {"cli"},
    "starlette": {"web"},
    "uvicorn": {"web"},
}
FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(file.relative_to(PACKAGE)) for file in FILES]


def name_of(path: Path) -> str:
    """`study.space` for resnetlab/study/space.py; a package's name for its __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imports(path: Path, at_import: bool = False) -> set[str]:
    """Modules of ours (`.study.space`) and packages (`torch`) that a file imports.

    at_import: only when it is loaded itself, neither inside functions nor for the type checker alone.
    """
    found: set[str] = set()
    stack: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            package, _, base = node.module.partition(".")
            if package != "resnetlab":
                found.add(package)
                continue
            for alias in node.names:
                full = f"{base}.{alias.name}".strip(".")
                found.add("." + (full if full in MODULES else base))
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        elif at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            stack += node.orelse
        else:
            stack += ast.iter_child_nodes(node)
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_room_imports_only_the_rooms_that_the_table_allows(path):
    here = room(name_of(path))
    if here in {"", *ROOF}:
        return
    assert here in GROUND or here in ROOMS, f"{here} has no line in the table of rooms"
    allowed = GROUND | {here} | ROOMS.get(here, set())
    wrong = {name for name in imports(path) if name.startswith(".") and room(name[1:]) not in allowed | {""}}
    assert not wrong, f"{here} may not import {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_packages_are_named_only_in_the_rooms_that_may(path):
    here = room(name_of(path))
    wrong = {name for name in imports(path) if name in PACKAGES and here not in PACKAGES[name]}
    assert not wrong, f"{here} may not import {', '.join(sorted(wrong))}"


def test_a_sweep_asks_the_analysis_only_what_a_look_decides():
    used = {name for path in FILES if room(name_of(path)) == "sweep" for name in imports(path)}
    assert {name for name in used if room(name[1:]) == "analysis"} == {".analysis.confirm.looks_taken"}


def test_the_table_has_no_arrow_upward():
    above = list(ROOMS)
    for position, (here, below) in enumerate(ROOMS.items()):
        assert below <= set(above[:position]), f"{here} imports a room that comes after it"


def test_no_module_needs_itself_to_be_imported():
    graph = {
        name: {found[1:] for found in imports(path, at_import=True) if found.startswith(".") and found[1:] != name}
        for name, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in graph.get(name, set()):
                if MODULES[other].name != "__init__.py":  # a package's face imports its own modules
                    visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


LIGHT = [room for room in ROOMS if room not in TORCH]


@pytest.mark.parametrize("here", LIGHT)
def test_a_light_room_loads_neither_torch_nor_ray(here):
    code = (
        "import importlib, pkgutil, sys\n"
        f"room = importlib.import_module('resnetlab.{here}')\n"
        "for found in pkgutil.walk_packages(room.__path__, room.__name__ + '.'):\n"
        "    importlib.import_module(found.name)\n"
        "loaded = {'torch', 'torchvision', 'ray'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_file_of_a_built_in_part_can_be_imported_by_the_room_that_reads_studies():
    """`study.catalog` imports these files by name, wherever a study is read: they are loaded before `study` itself."""
    places = [kind.folder for kind in catalog.KINDS.values()]
    parts = [name for name in MODULES if any(name.startswith(f"{place}.") for place in places)]
    assert len(parts) > 20
    for name in parts:
        needed = {found[1:] for found in imports(MODULES[name], at_import=True) if found.startswith(".")}
        light = ("vision.parts.", "vision.sizes", "search.rule", "search.schedulers.")  # and each other
        wrong = {one for one in needed if room(one) not in GROUND and not one.startswith(light)}
        assert not wrong, f"{name} imports {', '.join(sorted(wrong))} where it is imported"


@pytest.mark.parametrize(
    "first",
    [
        "vision.parts.models.resnet",
        "vision.parts.datasets.glyphs",
        "search.schedulers.hyperband",
        "study.catalog",
        "builtin",
    ],
)
def test_a_part_s_file_can_be_the_first_to_be_imported(first):
    done = subprocess.run([sys.executable, "-c", f"import resnetlab.{first}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_functions_fit_on_a_screen():
    long = [
        f"{name}: {node.name}"
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 70
    ]
    assert not long
