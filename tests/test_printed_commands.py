"""The commands that are printed run as printed, in the folder in which they were printed; and nothing is printed after
a script's own last line, on stderr neither."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import images_here
import pytest
from made_results import make_results

from resnetlab import commands
from resnetlab.analysis.results import Results
from resnetlab.report import terminal
from resnetlab.report.findings import Findings
from resnetlab.report.rerun_command import rerun_command

ROOT = Path(__file__).resolve().parents[1]
STUDY = """
dataset: {name: folder, root: my images}
baseline: {blocks: 1, width: 8, downsample: 1, batch_size: 8}
arms: {a: {}, b: {kernel: 1}}
search: {epochs: 1}
confirm: {design: arms, seeds: 1}
"""


def shell(here: Path, line: str, **more: str) -> subprocess.CompletedProcess:
    """`line` as a person would paste it, with another Python on the PATH, or none."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    own = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "RESNETLAB_CACHE": str(here.parent / "cache")}
    return subprocess.run(
        ["/bin/bash", "-c", line], cwd=here, env=env | own | more, capture_output=True, text=True, timeout=500
    )


def script(name: str, *words: str) -> str:
    return shlex.join([sys.executable, str(ROOT / "sweeps" / name), *words])


def quiet(done: subprocess.CompletedProcess, last: str) -> str:
    """What was printed on stdout, whose last line is like `last`; nothing was on stderr."""
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(last, done.stdout.splitlines()[-1]), done.stdout[-500:]
    return done.stdout


def next_of(out: str) -> str:
    return out.splitlines()[-1].removeprefix("next: ")


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """Where the sweep runs: a folder with a space in its name, with the study and its images."""
    here = tmp_path_factory.mktemp("commands") / "my work"
    here.mkdir()
    images_here.make(here / "my images", seed=0, each=12)
    (here / "s.yaml").write_text(STUDY)
    return here


@pytest.fixture(scope="module")
def swept(here) -> str:
    """What a sweep printed."""
    how = ["--study", "s.yaml", "--set", "title=a {b} c", "--storage", "the results"]
    quiet(shell(here, script("ablation.py", *how, "--dry-run")), ".+")
    return quiet(shell(here, script("ablation.py", *how)), "next: .+")


@pytest.mark.slow
def test_after_a_sweep_the_next_command_names_the_data_and_runs(here, swept):
    printed = next_of(swept)
    assert "--data 'my images'" in printed and "'the results/s'" in printed
    quiet(shell(here, printed), "exported: model.safetensors, .* in model")


@pytest.mark.slow
def test_status_prints_a_command_for_the_folder_it_is_asked_in(here, swept):
    elsewhere = here.parent / "elsewhere"
    elsewhere.mkdir()
    out = quiet(shell(elsewhere, script("status.py", "../my work/the results/s")), "next: .+")
    assert "--data '../my work/my images'" in next_of(out)
    quiet(shell(elsewhere, next_of(out)), "exported: .+")
    quiet(shell(elsewhere, script("report.py", "../my work/the results/s")), ".*/report.html")


@pytest.mark.slow
def test_results_and_images_can_be_moved_together(here, swept):
    moved = here.parent / "moved"
    here.rename(moved)
    try:
        out = quiet(shell(here.parent, script("status.py", "moved/the results/s")), "next: .+")
        assert "--data 'moved/my images'" in out
    finally:
        moved.rename(here)


@pytest.mark.slow
def test_the_row_of_a_trial_in_the_report_has_a_command_that_runs(here, swept):
    page = (here / "the results/s/report.html").read_text(encoding="utf-8")
    found = json.loads('"' + re.search(r'"rerun": ?"((?:[^"\\]|\\.)*)"', page)[1] + '"')
    quiet(shell(here, f"{found}1"), "identical: .+")


@pytest.mark.slow
def test_the_scripts_that_only_look_end_with_their_own_line(here, swept):
    place = "the results/s"
    quiet(shell(here, script("export.py", place, "--optuna", "study.db")), "optuna: 0 trials in study.db")
    quiet(shell(here, script("report.py", place, "--figure", "effects", "--out", "x.svg")), ".+")
    json.loads(quiet(shell(here, script("status.py", place, "--json")), r"\{.*\}"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "last"),
    [
        (
            ["calibrate.py", "--repeats", "20", "--sweeps", "1", "--only", "stages", "--out", "calibrated"],
            "table: .*calibration.md",
        ),
        (["reproduce.py"], " +arms: .+"),
        (["reproduce.py", "font-transfer", "--scale", "0.05", "--dry-run"], ".+"),
        (["ablation.py", "--settings"], "  .+"),
        (["ablation.py", "--dry-run"], ".+"),
    ],
    ids=lambda words: " ".join(words[:2]) if isinstance(words, list) else "",
)
def test_nothing_follows_the_last_line_of_a_script(here, words, last):
    quiet(shell(here, script(*words)), last)


@pytest.mark.slow
def test_nothing_follows_the_last_line_of_a_whole_reproduction(here):
    """Which ends with the footnotes of its comparison."""
    how = ["--data", "my images", "--seeds", "1", "--set", "search.epochs=1", "--set", "baseline.batch_size=8"]
    first = quiet(shell(here, script("reproduce.py", "resnet-vs-cnn", *how)), r"\([0-9]+\) .+")
    again = quiet(shell(here, script("reproduce.py", "resnet-vs-cnn", *how)), r"\([0-9]+\) .+")
    assert "starting Ray" in first and again.startswith("resnet-vs-cnn: finished")
    assert again[again.index("Numbers") :] == first[first.index("Numbers") :]


@pytest.mark.slow
def test_nothing_follows_the_last_line_without_a_home_folder(here, tmp_path):
    """matplotlib warns of it."""
    make_results(tmp_path / "made", faults=False)
    for words in (["status.py", "made"], ["report.py", "made"]):
        quiet(shell(tmp_path, script(*words), HOME="/proc/nowhere", TMPDIR=str(tmp_path)), ".+")


def test_a_sweep_that_was_left_off_is_continued_from_where_it_was_begun(tmp_path, monkeypatch):
    make_results(tmp_path / "work dir/results/x", confirm=False)
    place = tmp_path / "work dir/results/x"
    sweep = json.loads((place / "sweep.json").read_text())
    sweep |= {"command": "python ablation.py --storage results --phase explore", "directory": "../.."}
    (place / "sweep.json").write_text(json.dumps(sweep))
    monkeypatch.chdir(tmp_path)
    continued = terminal.told(Findings(Results.open(place)), str(place)).next
    assert continued == "cd 'work dir' && python ablation.py --storage results"
    monkeypatch.chdir(tmp_path / "work dir")
    assert terminal.told(Findings(Results.open(place)), str(place)).next == "python ablation.py --storage results"


def test_data_that_was_never_recorded_is_asked_for(tmp_path):
    make_results(tmp_path, confirm=False)
    results = Results.open(tmp_path)
    assert "--data" not in rerun_command(results, "x")
    dataset = results.study.dataset.model_copy(update={"name": "folder"})
    changed = {**vars(results), "study": results.study.model_copy(update={"dataset": dataset})}
    assert shlex.split(rerun_command(Results(**changed), "x", "3"))[2:] == ["x", "--data", "DATA", "3"]
    found = {**changed, "sweep": results.sweep | {"data_place": None}}
    assert "--data" not in rerun_command(Results(**found), "x")
    odd = {**changed, "sweep": results.sweep | {"data_place": ["no path"], "directory": 3}}
    assert "--data" not in rerun_command(Results(**odd), "x") and commands.continued("run", tmp_path, 3) == "run"


def test_python_is_said_as_a_shell_finds_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert commands.python() in ("python", "python3")
    monkeypatch.setenv("PATH", "/nowhere")
    assert Path(commands.python()).absolute().samefile(sys.executable)
    other = tmp_path / "bin/python"
    other.parent.mkdir()
    other.symlink_to(sys.executable)  # another environment on the same interpreter
    monkeypatch.setenv("PATH", str(other.parent))
    assert commands.python() not in ("python", "bin/python")


def test_a_script_is_named_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert shlex.split(commands.command("trial", "a b"))[1:] == ["sweeps/trial.py", "a b"]
    monkeypatch.chdir(tmp_path)
    assert Path(shlex.split(commands.command("trial"))[1]).samefile(ROOT / "sweeps/trial.py")
