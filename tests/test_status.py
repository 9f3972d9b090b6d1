"""The status of a sweep, read by another process: running, interrupted, finished; in a terminal, a log, as JSON."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_results import default_study, make_results
from rich.console import Console

from resnetlab.analysis.results import Results
from resnetlab.commands import command, short
from resnetlab.report import terminal
from resnetlab.report.findings import Findings
from resnetlab.storage import control
from resnetlab.storage.lease import Lease, holder
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store
from resnetlab.study.records import Status

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("results") / "made"
    make_results(place, faults=False)
    return place


def shown(place: Path, width: int = 80, **how) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, **how)
    terminal.show(terminal.told(Findings(Results.open(place)), str(place)), console)
    return console.file.getvalue()


def files(place: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in place.rglob("*")}


@pytest.mark.parametrize("width", [50, 80, 100, 160])
def test_a_finished_sweep_says_what_it_found_at_every_width(place, width):
    before = files(place)
    text = shown(place, width, force_terminal=True, color_system=None)
    assert files(place) == before  # who looks on writes nothing
    lines = text.splitlines()
    whole = [line for line in lines if line.startswith(("made:", "report:", "next:"))]  # are copied, so not cut
    assert max(len(line.rstrip()) for line in lines if line not in whole) <= width
    assert lines[0] == "made: finished" and "51 of 51" in text
    table = text[text.index("comparison") :]
    assert table.index("blocks 1") < table.index("inconclusive") and "95% interval" in table
    assert ("adjusted p" in table) == (width >= 90)
    confirm = Results.open(place).confirm
    best = confirm[confirm["arm"] == confirm.groupby("arm")["test_accuracy"].mean().idxmax()]
    number = str(best.loc[best["val_accuracy"].idxmax(), "number"])
    assert f"next: {command('trial', short(str(place)), number, '--export', 'model')}" in lines
    assert f"(trial {number})" in " ".join(text.split())


def test_no_color_and_no_terminal(place, monkeypatch):
    assert "\x1b[" in shown(place, force_terminal=True, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any(f"\x1b[{code}m" in shown(place, force_terminal=True) for code in range(30, 38))
    monkeypatch.delenv("NO_COLOR")
    text = shown(place)
    assert "\x1b" not in text and "confirm: 51 of 51 trials ended" in text


def test_a_running_sweep_is_known_by_its_lease(tmp_path):
    make_results(tmp_path / "x", confirm=False)
    store = Store(ResultsFolder.at(tmp_path / "x"), default_study().columns)
    first = store.trials[next(iter(store.trials))]
    for number, (status, epochs) in enumerate([("running", 3), ("running", 0), ("waiting", 0)], start=30):
        row = first | {"trial_id": f"{number:012d}", "number": number, "status": status, "epochs_run": epochs}
        store.add("trials", row | {"ended": None})
    store.add("epochs", store.read("epochs").to_pylist()[0] | {"trial_id": f"{30:012d}", "epoch": 3})
    store.flush()  # acknowledged, in no Parquet file yet
    said = terminal.told(Findings(Results.open(tmp_path / "x")), "results/x")
    assert said.state == "running" and said.holder.pid == os.getpid() and said.holder.silent < 600 and said.next == ""
    now = said.standing
    assert (now.working, now.starting, now.waiting, now.ended, now.phase) == (1, 1, 1, 30, "explore")
    assert now.images_per_second > 0
    assert "1 running  1 starting  1 queued" in shown(tmp_path / "x", force_terminal=True, no_color=True)
    store.close()
    said = terminal.told(Findings(Results.open(tmp_path / "x")), "results/x")
    assert (said.state, said.holder, said.standing.working) == ("unfinished", None, 0)
    assert said.next == "python sweeps/ablation.py --study default --name made"


def test_what_a_running_sweep_was_asked_is_shown_until_it_has_paused_and_then(tmp_path):
    make_results(tmp_path / "x", confirm=False)
    folder = ResultsFolder.at(tmp_path / "x")

    def said():
        found = terminal.told(Findings(Results.open(tmp_path / "x")), "x")
        return found.state, found.as_json()["asked"], found.standing.line(), found.next

    lease = Lease(folder)
    assert said()[:2] == ("running", None)
    control.ask(folder, "pause")
    state, asked, line, _ = said()
    assert (state, asked) == ("running", "pause") and " ended · pauses after this epoch · 6 complete · " in line
    other = "sweep b on host h (pid 1) runs 2 trials; the share of this one is 1 of 2"
    folder.write_json("sweep.json", (folder.read_json("sweep.json") or {}) | {"paused": True, "shared": other})
    state, asked, line, command = said()
    assert (state, asked) == ("paused", "pause") and " ended · paused · " in line and line.endswith(f" · {other}")
    assert command.endswith(" x") and "resume" in command
    control.ask(folder, "resume")
    assert said()[:2] == ("running", None)  # also before sweep.json says so
    control.ask(folder, "pause")
    lease.release()
    assert said()[:2] == ("unfinished", None) and other not in said()[2]


def test_a_holder_whose_process_is_gone_holds_nothing(tmp_path):
    make_results(tmp_path / "x", confirm=False)
    code = "import sys; from resnetlab.storage.lease import Lease; "
    code += "from resnetlab.storage.results_folder import ResultsFolder; "
    code += "Lease(ResultsFolder.at(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], check=True)
    found = holder(ResultsFolder.at(tmp_path / "x"))
    assert not found.alive and found.silent < 600
    assert terminal.told(Findings(Results.open(tmp_path / "x")), "x").state == "unfinished"


def test_a_holder_elsewhere_is_alive_as_long_as_it_renews(tmp_path, monkeypatch):
    folder = ResultsFolder.at(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("resnetlab.storage.lease.socket.gethostname", lambda: "elsewhere")
        lease = Lease(folder)
    assert holder(folder).alive and holder(folder).host == "elsewhere"
    (file,) = (tmp_path / "lease").iterdir()
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 120))
    assert not holder(folder).alive and holder(folder).silent > 100
    with monkeypatch.context() as patch:
        patch.setattr("resnetlab.storage.lease.socket.gethostname", lambda: "elsewhere")
        lease.release()
    assert holder(folder) is None


def test_one_json_object_for_scripts(place):
    done = subprocess.run(
        [sys.executable, str(ROOT / "sweeps" / "status.py"), str(place), "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (said["state"], said["planned"], said["ended"]) == ("finished", 51, 51)
    assert said["counts"].keys() <= {str(status) for status in Status}
    assert {row["verdict"] for row in said["effects"]} <= {"effect", "equivalent", "inconclusive"}
    assert said["effects"][0]["name"].startswith("blocks") and said["effects"][0]["estimate"] < -0.01
    assert said["best"]["val_accuracy"] == Results.open(place).explore["val_accuracy"].where(
        Results.open(place).explore["status"] == "complete"
    ).max()  # fmt: skip


@pytest.mark.parametrize("name", ["", "a-file"])
def test_a_place_that_is_no_results_folder(tmp_path, name):
    (tmp_path / "a-file").write_text("")
    done = subprocess.run(
        [sys.executable, str(ROOT / "sweeps" / "status.py"), str(tmp_path / name)], capture_output=True, text=True
    )
    assert done.returncode == 2 and "not a results folder" in done.stderr and done.stdout == ""


def test_a_rerun_of_a_published_study_brings_its_verdicts():
    place = ROOT / "results" / "reference" / "resnet-vs-cnn"
    said = terminal.told(Findings(Results.open(place)), str(place)).as_json()
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    claims = said["published"]["claims"]
    assert {row["verdict"] for row in claims} <= {"agrees", "differs", "not comparable", "undecided"} and claims
    assert said["state"] == "finished" and said["next"].endswith("5 --export model")  # of the arm that does best
