"""A finished study that is asked for again: answered at once, where nothing has changed; and who is told of it."""

import json
import os
import pdb
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from doors import Door, tree
from made_results import make_results

from resnetlab.cli import notify
from resnetlab.cli.notify import Notifier
from resnetlab.cli.trial import debug_trial
from resnetlab.driver.finished import finished
from resnetlab.driver.live_view import LiveView
from resnetlab.errors import BadData, BadRequest, Interrupted, TrialsFailed
from resnetlab.experiment import own
from resnetlab.provenance import _without_notify
from resnetlab.storage.lease import Lease
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table, write_table
from resnetlab.study.included import study_file
from resnetlab.vision.data import default_cache, prepare
from resnetlab.vision.training.loop import Training

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference" / "default"


def study(**changes):
    return own.load(study_file("default", "--study"), changes)


def reference_here(folder: Path) -> None:
    """A copy of the reference, where the characters are drawn as they were for it: not all versions of libraries do."""
    drawn = prepare(study().baseline_config(seed=0).data, default_cache())
    if drawn.hash != json.loads((REFERENCE / "data.json").read_text())["hash"]:
        pytest.skip("the libraries here draw other characters than those of the reference")
    shutil.copytree(REFERENCE, folder)


@pytest.fixture
def place(tmp_path) -> Path:
    """A finished default study, as this version leaves it."""
    folder = tmp_path / "results" / "default"
    reference_here(folder)
    ResultsFolder.at(folder).write_json("study.json", study().recorded())
    (folder / "report.html").touch()
    return folder


def test_a_finished_study_is_known(place):
    before = tree(place)
    assert len(finished(study(), str(place)).trials) == 34
    assert tree(place) == before


def test_it_answers_at_once_and_changes_nothing(place, tmp_path):
    """At once: in less than twice the time that importing torch alone takes here."""
    with Door("ablation") as door:
        door.call(tmp_path, "--storage", "results")  # reads the data into the cache
        before = tree(tmp_path / "results")
        took = {"answer": [], "torch": []}
        for _ in range(3):
            ended = door.call(tmp_path, "--storage", "results")
            took["answer"].append(ended.seconds)
            began = time.monotonic()
            subprocess.run([sys.executable, "-c", "import torch"], check=True)
            took["torch"].append(time.monotonic() - began)
        told = door.call(tmp_path, "--storage", "results", "--json")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("default: finished") and "kernel 5 instead of 3" in ended.out
    assert min(took["answer"]) < 2 * min(took["torch"])
    assert tree(tmp_path / "results") == before
    assert json.loads(told.out)["state"] == "finished"


def test_a_study_that_confirms_nothing_is_finished_without_a_plan(tmp_path):
    few = {"search.trials": 4, "search.audit": 0, "confirm.design": "none"}
    one = study(**few)
    make_results(tmp_path / "default", one, confirm=False, faults=False)
    ResultsFolder.at(tmp_path / "default").write_json("study.json", one.recorded())
    (tmp_path / "default/report.html").touch()
    assert len(finished(one, str(tmp_path / "default")).trials) == 4
    assert finished(study(**few | {"search.trials": 5}), str(tmp_path / "default")) is None
    assert finished(study(**few | {"confirm.design": "factorial"}), str(tmp_path / "default")) is None


@pytest.mark.parametrize(
    "changes",
    [{"confirm.seeds": 4}, {"search.trials": 11}, {"seed": 1}, {"title": "Another"}, {"confirm.delta": 0.6},
     {"hypotheses": []}, {"baseline.width": 9}],
)  # fmt: skip
def test_a_study_that_asks_for_something_else_is_not_finished(place, changes):
    assert finished(study(**changes), str(place)) is None


def _lost_report(place: Path) -> None:
    (place / "report.html").unlink()


def _old_report(place: Path) -> None:
    os.utime(place / "report.html", (0, 0))


def _no_plan(place: Path) -> None:
    (place / "plan.json").unlink()


def _interrupted(place: Path) -> None:
    folder = ResultsFolder.at(place)
    table = read_table(folder, "trials")
    frame = table.to_pandas()
    frame.loc[frame.index[-1], "status"] = "interrupted"
    write_table(folder, "trials", pa.Table.from_pandas(frame, table.schema, preserve_index=False))
    (place / "report.html").touch()


def _fewer(place: Path) -> None:
    folder = ResultsFolder.at(place)
    write_table(folder, "trials", read_table(folder, "trials").slice(0, 33))
    (place / "report.html").touch()


def _other_plan(place: Path) -> None:
    (place / "plan.json").write_text((place / "plan.json").read_text().replace('"alpha": 0.05', '"alpha": 0.04', 1))
    (place / "report.html").touch()


@pytest.mark.parametrize("change", [_lost_report, _old_report, _no_plan, _interrupted, _fewer, _other_plan])
def test_a_folder_that_lacks_something_is_not_finished(place, change):
    change(place)
    assert finished(study(), str(place)) is None


def test_a_folder_that_is_held_is_not_finished(place):
    lease = Lease(ResultsFolder.at(place))
    assert finished(study(), str(place)) is None
    lease.release()
    assert finished(study(), str(place)) is not None


def test_data_that_has_changed_is_refused_as_by_a_run(place):
    folder = ResultsFolder.at(place)
    folder.write_json("data.json", folder.read_json("data.json") | {"hash": "0" * 16})
    with pytest.raises(BadData, match="was run on glyphs"):
        finished(study(), str(place))


# Being told


def events(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_the_command_gets_what_happened(tmp_path):
    file = tmp_path / "events.jsonl"
    told = Notifier.of(f"cat >> {file}; echo $RESNETLAB_EVENT >> {tmp_path}/names", "mine <b>", "s3://k:secret@b/r")
    told.failed(TrialsFailed("all failed, see https://u:pw@host/x?token=abc"))
    told.failed(Interrupted("interrupted by SIGTERM"))
    told.failed(ValueError("unforeseen"))
    failed, stopped, other = events(file)
    assert failed["event"] == "failed" and failed["code"] == 1 and failed["error"] == "TrialsFailed"
    assert failed["study"] == "mine <b>" and "secret" not in json.dumps(failed) and "abc" not in failed["message"]
    assert stopped["event"] == "interrupted" and stopped["code"] == 130
    assert other["error"] == "ValueError" and other["code"] == 1
    assert (tmp_path / "names").read_text().split() == ["failed", "interrupted", "failed"]


def test_a_command_that_fails_or_hangs_is_said_and_changes_nothing(monkeypatch):
    said: list[str] = []
    Notifier("echo no route; exit 3", "mine", "there", said.append).tell("finished", "done")
    assert said == ["note: --notify: the command for 'finished' ended with code 3: no route"]
    monkeypatch.setattr(notify, "LIMIT", 0.3)
    Notifier("sleep 30", "mine", "there", said.append).tell("finished", "done")
    assert "took more than" in said[-1]
    Notifier.of(None, "mine", "there").tell("finished", "done")
    with pytest.raises(BadRequest, match="--notify: is empty"):
        Notifier.of("  ", "mine", "there")


def test_a_long_wait_for_workers_is_told_once_each_time(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    told: list[tuple] = []
    monkeypatch.setattr(LiveView, "update", lambda self: None)
    monkeypatch.setattr(notify.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(Notifier, "waiting", lambda self, wanted, trials: told.append((clock.now, wanted, trials)))
    sweep = SimpleNamespace(counts=dict, waits_for="", queued=2, running={"a": 1, "b": 2}, waiting={"a", "b"})
    shown = notify.view(Notifier("true", "mine", "there"))(sweep)
    for clock.now, sweep.waits_for in [(0, ""), (1, "a GPU"), (50, "a GPU"), (61, "a GPU"), (500, "a GPU"), (501, ""),
                                       (502, "4 CPUs"), (561, "4 CPUs"), (562, "4 CPUs")]:  # fmt: skip
        shown.update()
    sweep.waiting = {"b"}  # Tune queues one trial ahead while others train
    for clock.now in (600, 700, 800):
        shown.update()
    assert told == [(61, "a GPU", 2), (562, "4 CPUs", 2)]
    assert notify.view(Notifier.of(None, "mine", "there")) is LiveView


def test_the_command_is_recorded_nowhere():
    words = ["--study", "x", "--notify", "curl https://hooks/T0/secret", "--notify=mail me", "--seed", "3"]
    assert _without_notify(words) == ["--study", "x", "--seed", "3"]


def test_sweeps_tell(place, tmp_path):
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    script = [sys.executable, str(ROOT / "sweeps" / "ablation.py"), "--storage", "results", "--notify", "cat >> told"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*script, *words], cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8", timeout=500
        )

    assert run().returncode == 0
    refused = run("--seed", "5")
    assert refused.returncode == 4, refused.stderr
    done, failed = events(tmp_path / "told")
    assert done["event"] == "finished" and done["summary"]["state"] == "finished" and done["study"] == "default"
    assert failed["event"] == "failed" and failed["code"] == 4 and "different settings" in failed["message"]


# A trial that failed, alone


def failed_trial(place: Path, config: dict, epochs: int) -> ResultsFolder:
    """The reference, whose trial 0 is recorded as failed after so many epochs."""
    reference_here(place)
    held = ResultsFolder.at(place)
    table = read_table(held, "trials")
    frame = table.to_pandas()
    config = json.loads(frame.loc[0, "config"]) | config
    frame.loc[0, ["config", "status", "reason"]] = [json.dumps(config), "failed", "RuntimeError: a\nb"]
    frame.loc[0, ["epochs_run", "val_accuracy"]] = [epochs, None]
    write_table(held, "trials", pa.Table.from_pandas(frame, table.schema, preserve_index=False))
    return held


def test_a_failed_trial_is_named_with_what_debugs_it(tmp_path):
    failed_trial(tmp_path / "default", {"lr": 1e12}, 0)  # more than a config may have: it fails while it is set up
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300"}

    def run(script: str, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "sweeps" / script), *words],
            cwd=tmp_path, env=env, input=typed, capture_output=True, text=True, encoding="utf-8", timeout=500,
        )  # fmt: skip

    said = run("status.py", "default").stdout
    assert "trial" in said and "failed: RuntimeError: a b\n" in said
    line = next(line for line in said.splitlines() if "alone, in a debugger:" in line)
    assert line.endswith("trial.py default 0 --debug")
    failure = json.loads(run("status.py", "default", "--json").stdout)["failures"][0]
    assert failure["debug"].endswith("default 0 --debug")
    done = run("trial.py", "default", "0", "--debug", typed="p json_data\nq\n")
    assert done.returncode == 1 and "(Pdb)" in done.stdout and "1000000000000" in done.stdout, done.stdout
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: trial") and "ValidationError" in done.stderr.splitlines()[-1]
    assert run("trial.py", "default", "0", "--debug", "--json").returncode == 2


def test_the_debugger_opens_in_the_epoch_that_failed(tmp_path, monkeypatch, capsys):
    failed_trial(tmp_path / "default", {}, 1)
    run_epoch, seen = Training.run_epoch, []

    def failing(training):
        if training.epoch == 1:
            raise RuntimeError("no such operator")
        return run_epoch(training)

    monkeypatch.setattr(Training, "run_epoch", failing)
    monkeypatch.setattr(pdb, "post_mortem", seen.append)
    with pytest.raises(TrialsFailed, match="failed: RuntimeError: no such operator"):
        debug_trial(str(tmp_path / "default"), "0", None, "cpu")
    frames = traceback.extract_tb(seen[0])
    assert frames[-1].name == "failing" and "epoch 1 of 2" in capsys.readouterr().out
    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    debug_trial(str(tmp_path / "default"), "0", None, "cpu")
    assert "it did not fail this time" in capsys.readouterr().out and len(seen) == 1
