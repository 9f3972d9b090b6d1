"""The commands: their table, help texts, exit codes, and what they import at start."""

import importlib
import os
import re
import runpy
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
        ("resnetlab sta", ["status"]),
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
    assert message.startswith("\n" if issubclass(kind, errors.Interrupted) else "error: ")


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


IGNORED = {
    "ablation.py --settings --json": "--settings: cannot be used with --json",
    "ablation.py --settings --trials 3 --dry-run": "--settings: cannot be used with --trials, --dry-run",
    "ablation.py --dry-run --json": "--dry-run: cannot be used with --json",
    "ablation.py --dry-run --tensorboard tb": "--dry-run: cannot be used with --tensorboard",
    "ablation.py --dry-run --mlflow m --wandb w": "--dry-run: cannot be used with --mlflow, --wandb",
    "ablation.py --nodes 3": "--nodes 3: needs --address",
    "ablation.py --trials 3 --set search.trials=4": "--set search.trials=4: another option gives 3",
    "ablation.py --set seed=1 --set seed=2": "--set seed=2: seed is set twice",
    "ablation.py --study STUDIES/published/resnet-vs-cnn.yaml --trials 5": "--trials 5: ",
    "reproduce.py --scale 0.1": "without STUDY, the list: cannot be used with --scale",
    "reproduce.py resnet-vs-cnn --table .": "--table: cannot be used with STUDY",
    "reproduce.py resnet-vs-cnn --dry-run --json": "--dry-run: cannot be used with --json",
    "reproduce.py resnet-vs-cnn --seeds 2 --set confirm.seeds=4": "--seeds 2: --set confirm.seeds gives it too",
    "report.py nowhere --figure effects --json": "--figure: cannot be used with --json",
    "report.py nowhere --out x.pdf": "--out and --columns apply to one figure",
}


@pytest.mark.parametrize("words", IGNORED)
def test_an_option_that_another_would_ignore_is_refused(words, tmp_path, monkeypatch, capfd):
    script, *rest = words.replace("STUDIES", str(ROOT / "sweeps/studies")).split()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *rest])
    monkeypatch.setenv("RESNETLAB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "sweeps" / script), run_name="__main__")
    out, err = capfd.readouterr()
    assert left.value.code == 2 and f"error: {IGNORED[words]}" in err and out == "" and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("words", ["ablation.py --settings", "reproduce.py"])
def test_what_takes_no_option_still_works_alone(words, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", words.split())
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "sweeps" / sys.argv[0]), run_name="__main__")
    assert not left.value.code and capfd.readouterr().out
