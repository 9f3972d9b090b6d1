"""The commands: the table that lists them, how their help names them, exit codes, what they import at their start."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resnetlab import cli, errors
from resnetlab.cli.exit_codes import EXIT_CODES, report_errors
from resnetlab.cli.main import COMMANDS
from resnetlab.commands import SCRIPTS as SCRIPTS_OF

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "sweeps").glob("*.py"))
OF_SCRIPTS = {name: SCRIPTS_OF.get(name, f"{name}.py") for name in COMMANDS if name != "new"}
ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ResnetlabError)]


def run(*words, cwd=ROOT, **more):
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "TERM": "dumb"} | more
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=cwd, env=env, timeout=300)


def test_the_package_lists_every_command_with_its_script():
    rows = re.findall(r"\| `(\w+)` +\| (?:`(\w+\.py)`)? +\|", cli.__doc__)
    assert {name: script for name, script in rows if script} == OF_SCRIPTS
    assert [name for name, _ in rows] == list(COMMANDS)
    assert sorted(OF_SCRIPTS.values()) == SCRIPTS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_names_the_way_it_was_called(name):
    options = {}
    for words, called in [
        (["-m", "resnetlab", name], f"python -m resnetlab {name}"),
        ([f"sweeps/{OF_SCRIPTS.get(name)}"], f"python sweeps/{OF_SCRIPTS.get(name)}"),
    ]:
        if words[0].endswith("None"):
            continue
        done = run(*words, "--help")
        assert done.returncode == 0, done.stderr
        assert f"Example: {called} {importlib.import_module(f'resnetlab.cli.{name}').EXAMPLE}" in done.stdout
        options[called] = set(re.findall(r"--[a-z][a-z-]+", done.stdout.partition("Example: ")[0]))
    assert len({frozenset(found) for found in options.values()}) == 1


def test_the_command_lists_its_subcommands():
    done = run("-m", "resnetlab", "--help")
    assert done.returncode == 0 and all(re.search(rf"^\W*{name}\b", done.stdout, re.MULTILINE) for name in COMMANDS)
    assert "--install-completion" in done.stdout
    wrong = run("-m", "resnetlab", "swep")
    assert wrong.returncode == 2 and "swep" in wrong.stderr


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("resnetlab st", ["status"]),
        ("resnetlab sweep --study opt", ["optimizer-factorial"]),
        ("resnetlab status --js", ["--json"]),
    ],
)
def test_the_tab_key_completes_commands_options_and_studies(words, offered):
    code = "import sys; sys.argv[0] = 'resnetlab'; from resnetlab.cli.main import main; main()"
    number = str(len(words.split()) - 1)
    done = run("-c", code, _RESNETLAB_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=number)
    assert done.stdout.split() == offered, done.stderr


def test_the_included_studies_are_found_from_any_folder(tmp_path):
    done = run("-m", "resnetlab", "reproduce", cwd=tmp_path)
    assert done.returncode == 0 and "font-transfer" in done.stdout
    done = run("-m", "resnetlab", "sweep", "--settings", cwd=tmp_path)
    assert "default" in done.stdout.splitlines()[0]


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
