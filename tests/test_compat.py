"""What we use of other packages' private names is looked up in one place, and its loss is said with both versions."""

import ast
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from resnetlab.errors import BadRequest
from resnetlab.ray_backend import compat

ROOT = Path(__file__).resolve().parents[1]
PRIVATE = re.compile(
    r"(ray|torch|torchvision|optuna|numpy|pandas|pyarrow|matplotlib|scipy|sklearn)\b(.*\._|\.\w+\.execution)"
)


@pytest.mark.parametrize("names", compat.ALL, ids=lambda names: names[0])
def test_the_installed_ray_has_the_private_names(names):
    assert compat.private(*names).__name__ == names[0]


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("ray._moved", "Node"), "ray._moved"),
        (("ray._private.node", "Node", "Nodule"), "ray._private.node.Nodule"),
        (("ray._private.node", "Node.begin_again"), "ray._private.node.Node.begin_again"),
    ],
)
def test_a_private_name_that_is_gone_is_told_with_both_versions(names, missing):
    oldest, newest = compat.TESTED["ray"]
    with pytest.raises(BadRequest) as caught:
        compat.private(*names)
    said = str(caught.value)
    assert said.startswith(f"ray {version('ray')} has no {missing}, ") and caught.value.exit_code == 2
    assert f"Tested with ray {oldest} to {newest}" in said


def test_an_attribute_that_a_controller_lacks_is_told():
    with pytest.raises(BadRequest, match=r"has no ray\.tune\.Controller\._trials, which"):
        compat.check(object(), "ray.tune.Controller", "_trials")


def test_the_oldest_tested_version_is_the_one_promised():
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for package, (oldest, newest) in compat.TESTED.items():
        (found,) = [re.search(r">=([\d.]+)", one)[1] for one in promised if re.match(rf"{package}\b", one)]
        assert oldest == found or oldest.removesuffix(".0") == found
        assert [int(n) for n in oldest.split(".")] <= [int(n) for n in newest.split(".")]


def private_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if PRIVATE.match(name) and not re.search(r"\.__\w+__", name))


def test_private_names_are_imported_nowhere_else(tmp_path):
    (tmp_path / "x.py").write_text("from ray._raylet import X\nimport torch._dynamo\nfrom ray.air.execution import y\n")
    assert len(list(private_imports(tmp_path / "x.py"))) == 3
    files = [file for folder in ("resnetlab", "sweeps", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    assert {(file.name, name) for file in files for name in private_imports(file)} == set()
