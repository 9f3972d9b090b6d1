"""The floors of the house: who may import whom, and what the analysis wing must never load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "resnetlab"
GROUND = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "cli"} | {"tables", "tracking"}
TRAINING = ["data", "models", "training", "tuning"]  # bottom to top
ANALYSIS = ["analysis", "report"]
ROOF = {"cli"}


def imports(path: Path) -> set[str]:
    """The parts of resnetlab that a file imports, at any depth, and the packages outside it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module] if node.module != "resnetlab" else [f"resnetlab.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] if name.startswith("resnetlab.") else name.split(".")[0] for name in names}
    return found


def allowed(part: str) -> set[str]:
    if part in ROOF:
        return GROUND | set(TRAINING) | set(ANALYSIS)
    for wing in (TRAINING, ANALYSIS):
        if part in wing:
            return GROUND | set(wing[: wing.index(part) + 1])
    return GROUND


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(f.relative_to(PACKAGE)) for f in FILES])
def test_imports_go_down_the_floors(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    ours = GROUND | set(TRAINING) | set(ANALYSIS) | ROOF
    wrong = {name for name in imports(path) & ours if name not in allowed(part)}
    assert not wrong, f"{path.name} may not import {wrong}"
    outside = imports(path)
    if part != "tuning":
        assert not outside & {"ray", "optuna"} or part == "analysis"
    if part in GROUND | set(ANALYSIS):
        assert not outside & {"torch", "torchvision", "ray"}


@pytest.mark.parametrize("path", FILES, ids=[str(f.relative_to(PACKAGE)) for f in FILES])
def test_functions_fit_on_a_screen(path):
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 70, f"{path.name}: {node.name} is too long"


def test_the_analysis_wing_loads_neither_torch_nor_ray():
    code = (
        "import sys, pkgutil, importlib, resnetlab.analysis, resnetlab.report\n"
        "for wing in (resnetlab.analysis, resnetlab.report):\n"
        "    for found in pkgutil.iter_modules(wing.__path__, wing.__name__ + '.'):\n"
        "        importlib.import_module(found.name)\n"
        "loaded = {'torch', 'torchvision', 'ray', 'optuna'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
