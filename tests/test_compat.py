"""Private names of other packages: none of Ray or Optuna; those of torch are in one module and still exist."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import torch

from resnetlab.vision.training import optim, torch_private

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = r"(ray|tune|torch|torchvision|optuna|numpy|np|pandas|pd|pyarrow|pa|matplotlib|plt|scipy|sklearn)"
PRIVATE = re.compile(rf"{PACKAGES}\b(.*\._|\.\w+\.execution)")


def private_names(path):
    """What a file imports, or takes from an imported package, that begins with an underscore."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        else:
            continue
        for name in names:
            if re.fullmatch(r"[\w.]+", name) and PRIVATE.match(name) and not re.search(r"\.__\w+__", name):
                yield name


def strings(path):
    """The string constants of a file that name a private module of Ray or torch, as for importlib."""
    for node in ast.walk(ast.parse(path.read_text())):
        value = str(node.value) if isinstance(node, ast.Constant) else ""
        if re.fullmatch(r"(ray|torch)(\.\w+)*\._\w+(\.\w+)*", value) and value != "torch._inductor":  # is it loaded?
            yield value


def test_no_private_name_of_another_package_is_used(tmp_path):
    (tmp_path / "x.py").write_text(
        "from ray._raylet import X\nimport torch._dynamo\nfrom ray.air.execution import y\nray._private.node.Node\n"
        "f('ray._raylet')\n"
    )
    assert len(set(private_names(tmp_path / "x.py"))) >= 4 and len(list(strings(tmp_path / "x.py"))) == 1
    files = [file for folder in ("resnetlab", "sweeps", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    used = {(file.name, name) for file in files for name in (*private_names(file), *strings(file))}
    assert used == set()


def test_underscores_are_set_on_no_object_of_another_package():
    """Outside of torch_private, whose entries are tested below."""
    files = [file for file in (ROOT / "resnetlab").rglob("*.py") if file.name != "torch_private.py"]
    assert [file.name for file in files if "__dynamo" in file.read_text() or "optimizer._" in file.read_text()] == []


def test_torch_reads_the_name_that_spares_the_compiler():
    """`__dynamo_disable`: its reader is torch's wrapper around the methods of Optimizer."""
    wrapped = [method for method in vars(torch.optim.Optimizer).values() if hasattr(method, "__wrapped__")]
    assert wrapped, "torch.optim.Optimizer has no wrapped methods any more: drop spare_the_compiler"
    assert any(
        "__dynamo_disable" in inspect.getsource(getattr(method, "__func__", method).__code__) for method in wrapped
    ), f"torch {torch.__version__} does not read __dynamo_disable any more: see {torch_private.__name__}"


def test_an_optimizer_imports_no_compiler():
    code = (
        "import sys, torch; from resnetlab.vision.training import optim\n"
        "one = torch.optim.SGD([torch.nn.Parameter(torch.zeros(3))], lr=0.1); optim.step_of(one)(); one.zero_grad()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_torch_still_warns_in_the_words_that_are_ignored():
    assert optim.UNCAPTURED in inspect.getsource(inspect.getmodule(torch.optim.Optimizer))
