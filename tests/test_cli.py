"""The commands: the table that lists them, the exit codes in their help, and what scripts import at their start."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resnetlab import cli, errors
from resnetlab.cli.exit_codes import EXIT_CODES, report_errors

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "sweeps").glob("*.py"))
ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ResnetlabError)]


def test_the_package_lists_every_script_with_a_module_that_exists():
    rows = re.findall(r"\| `(\w+\.py)` +\| `(\w+)`", cli.__doc__)
    assert sorted(script for script, _ in rows) == SCRIPTS
    for _, module in rows:
        importlib.import_module(f"resnetlab.cli.{module}")


def test_the_help_lists_every_exit_code():
    assert {int(code) for code in re.findall(r"\b\d+\b", EXIT_CODES)} == {0, *(kind.exit_code for kind in ERRORS)}


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_is_one_message_without_secrets_and_its_exit_code(kind, capsys):
    with pytest.raises(SystemExit) as left, report_errors():
        raise kind("s3://me:hunter2@bucket/x is lost")
    assert left.value.code == kind.exit_code
    message = capsys.readouterr().err
    assert message.endswith("s3://…@bucket/x is lost\n")
    assert message.startswith("\n" if kind is errors.Interrupted else "error: ")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_imports_neither_torch_nor_ray_nor_pandas_before_it_knows_what_to_do(script):
    code = (
        "import runpy, sys\n"
        "runpy.run_path(sys.argv[1], run_name='loaded')\n"
        "sys.exit(', '.join({'torch', 'torchvision', 'ray', 'pandas', 'optuna'} & set(sys.modules)) or 0)\n"
    )
    command = [sys.executable, "-c", code, str(ROOT / "sweeps" / script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
