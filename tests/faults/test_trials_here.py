"""What goes wrong in trials, with real workers in this process: checkpoints, losses, clocks, data caches, disks."""

import errno
import os
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from faults.here import Here
from resnetlab import durable
from resnetlab.errors import CannotWrite, TrialsFailed
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table
from resnetlab.sweep import state_machine, task
from resnetlab.vision import trial_run

STUDY = {
    "name": "s",
    "dataset": {"name": "glyphs", "variants": 1, "limit": 100},
    "baseline": {"blocks": 1, "width": 4, "downsample": 0, "batch_size": 32},
    "arms": {"one": {"kernel": 1}, "three": {"kernel": 3}},
    "search": {"epochs": 4},
    "confirm": {"design": "arms", "seeds": 1},
}
WILD = {"lr": 100.0, "weight_decay": 10.0}  # a thousandfold growth a step


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial_run, "CHECKPOINT_SHARE", 1e9)  # a checkpoint every epoch, however short
        yield patch


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("here")


@pytest.fixture(scope="module")
def here(place, patch):
    """A sweep run through, and one that crashed in its first trial: three epochs in checkpoints, two as rows."""
    here = Here(place, patch, STUDY)
    here.run("whole")
    here.crash("crashed", after=2, publish=1)
    return here


def rows(here, case):
    return read_table(ResultsFolder.at(here.at(case)), "trials").to_pylist()


def copied(here, case):
    shutil.copytree(here.at("crashed"), here.at(case))
    return here.at(case)


def spoil(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


CHECKPOINTS = {  # what is done to the newest and the older one, and what is said
    "untouched": ((), None),
    "newest flipped": ((spoil,), "went on from epoch 2: a checkpoint could not be used"),
    "newest emptied": ((lambda p: p.write_bytes(b""),), "went on from epoch 2"),
    "newest truncated": ((lambda p: p.write_bytes(p.read_bytes()[:-100]),), "went on from epoch 2"),
    "both flipped": ((spoil, spoil), "began again: a checkpoint could not be used"),
    "both deleted": ((lambda p: p.unlink(),) * 2, " are recorded, but no checkpoint is there"),
}


@pytest.mark.experiment(11)
@pytest.mark.parametrize("case", CHECKPOINTS)
def test_a_damaged_checkpoint_leaves_the_one_before(here, case, record):
    damages, words = CHECKPOINTS[case]
    place = copied(here, case)
    files = sorted((place / "checkpoints").iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    assert len(files) == 2
    for damage, path in zip(damages, files, strict=False):
        damage(path)
    here.run(case)
    assert here.hash(case) == here.hash("whole")
    (row,) = [row for row in rows(here, case) if row["restarts"]]
    assert row["reason"].startswith("reached the full budget") and (words or "") in row["reason"]
    assert ";" in row["reason"] or words is None
    assert not list((place / "checkpoints").iterdir())
    record(11, damages=1)


@pytest.mark.experiment(16)
def test_the_clock_is_set_back_between_runs(here, monkeypatch):
    class Yesterday(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) - timedelta(days=1)

    case = "clock"
    copied(here, case)
    for module in (state_machine, task):
        monkeypatch.setattr(module, "datetime", Yesterday)
    here.run(case)
    assert here.hash(case) == here.hash("whole")
    assert all(row["ended"] >= row["started"] for row in rows(here, case))
    assert any(row["ended"] < datetime.now(UTC) - timedelta(hours=20) for row in rows(here, case))


@pytest.mark.experiment(17)
def test_a_data_cache_that_is_altered_while_it_is_used(here):
    (images,) = here.cache.glob("*/images.npy")

    def alter(number):
        if number == 2:
            with images.open("r+b") as file:
                file.seek(images.stat().st_size // 2)
                file.write(bytes(20_000))

    here.at_report = alter
    here.run("altered")
    here.at_report = lambda number: None
    assert here.hash("altered") == here.hash("whole")
    assert "the data cache was altered while it ran, and was made again" in rows(here, "altered")[0]["reason"]


@pytest.mark.experiment(17)
def test_a_data_cache_that_decayed_in_silence_is_made_again(here):
    (images,) = here.cache.glob("*/images.npy")
    before = images.stat()
    with images.open("r+b") as file:
        file.seek(5000)
        file.write(b"\x55")
    os.utime(images, ns=(before.st_atime_ns, before.st_mtime_ns))
    here.run("decayed")
    assert here.hash("decayed") == here.hash("whole")


@pytest.mark.experiment(6)
@pytest.mark.parametrize("report", [0, 3])
def test_a_disk_that_fills_ends_the_sweep_and_loses_nothing(here, monkeypatch, report):
    case = f"full {report}"
    writes = durable._written_aside

    def full(target, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill(number):
        if number == report:
            monkeypatch.setattr(durable, "_written_aside", full)

    here.at_report = fill
    words = r"No space left on device.*make room, then (continue with|run the same study again)"
    with pytest.raises(CannotWrite, match=words):
        here.run(case)
    here.at_report = lambda number: None
    monkeypatch.setattr(durable, "_written_aside", writes)
    here.run(case)
    assert here.hash(case) == here.hash("whole")


@pytest.mark.experiment(14)
def test_a_loss_that_is_not_a_number_is_a_row_and_never_the_best(place, patch):
    study = STUDY | {
        "arms": {},
        "baseline": STUDY["baseline"] | {"lr": 100.0},
        "factors": {"weight_decay": {"levels": [0.0, 10.0]}},
        "search": {"sampler": "grid", "trials": 2, "epochs": 2, "stopping": False},
        "confirm": {"seeds": 1},
    }
    here = Here(place / "nan", patch, study)
    here.run("x")
    found = rows(here, "x")
    assert {(row["weight_decay"], row["status"]) for row in found} == {(0.0, "complete"), (10.0, "diverged")}
    assert all("loss" in row["reason"] for row in found if row["status"] == "diverged")
    assert here.sweep.plan.incumbent["weight_decay"] == 0.0
    assert here.sweep.progress.best_trial in {row["trial_id"] for row in found if row["status"] == "complete"}


@pytest.mark.experiment(15)
def test_where_every_trial_fails_the_sweep_has_failed(place, patch):
    study = STUDY | {"arms": {name: arm | WILD for name, arm in STUDY["arms"].items()}}
    here = Here(place / "fail", patch, study)
    with pytest.raises(TrialsFailed, match="none of 2 trials reached the full budget") as caught:
        here.run("x")
    assert caught.value.exit_code == 1
    assert [row["status"] for row in rows(here, "x")] == ["diverged", "diverged"]
