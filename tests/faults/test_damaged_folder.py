"""Each file of a results folder truncated, emptied, deleted and bit-flipped in turn: refused with its name, or rebuilt
from what is still whole; never read as if nothing had happened, and never begun anew in silence."""

import shutil

import pytest
from test_sweep import FACTORS, Trainer

from faults.here import Here
from resnetlab.errors import ResnetlabError

STUDY = {
    "name": "s",
    "dataset": {"name": "glyphs", "variants": 1, "limit": 100},
    "baseline": {"batch_size": 32},
    "factors": FACTORS,
    "search": {"trials": 5, "epochs": 4, "reduction_factor": 2, "audit": 0},
    "confirm": {"seeds": 1},
}
DERIVED = ("figures", "report.html", "effects.parquet", "logs")


def step(task, reported):
    """A worker without a checkpoint: where it is begun again it repeats every epoch."""
    trainer = Trainer()
    for _ in range(reported + 1):
        report = trainer.step(task, reported)
    return report


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) * 2 // 3] ^= 4
    path.write_bytes(raw)


DAMAGES = {
    "truncated": truncate,
    "emptied": lambda p: p.write_bytes(b""),
    "deleted": lambda p: p.unlink(),
    "flipped": flip,
}
FILES = [
    "study.json",
    "data.json",
    "plan.json",
    "sweep.json",
    "trials.parquet",
    "epochs.parquet",
    "rungs.parquet",
    "classes.parquet",
    "predictions.parquet",
    "segments/first",
    "segments/last",
    "lease/000001.json",
]


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def here(tmp_path_factory, patch):
    """A place with one sweep run through and one that crashed while it confirmed, with published rows and segments."""
    here = Here(tmp_path_factory.mktemp("here"), patch, STUDY, step)
    here.run("whole")
    here.crash("crashed", after=here.reports - 6, publish=here.reports - 12)
    found = {str(path.relative_to(here.at("crashed"))) for path in here.at("crashed").rglob("*.*")}
    assert {name for name in found if not name.startswith(DERIVED)} >= {f for f in FILES if "/" not in f}
    return here


def copied(here, case):
    shutil.copytree(here.at("crashed"), here.at(case))
    return here.at(case)


def test_a_crashed_sweep_goes_on_to_the_same_tables(here):
    copied(here, "again")
    here.run("again")
    assert here.hash("again") == here.hash("whole")


@pytest.mark.experiment(10)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_refused_or_rebuilt(here, file, damage, record):
    case = f"{damage} {FILES.index(file)}"
    place = copied(here, case)
    if file.startswith("segments/"):
        segments = sorted((place / "segments").iterdir())
        assert len(segments) >= 2  # how many depends on the clock: a quick machine acknowledges more at a time
        path = segments[0 if file.endswith("first") else -1]
    else:
        path = place / file
    DAMAGES[damage](path)
    try:
        here.run(case)
    except ResnetlabError as error:
        assert error.exit_code in (3, 4) and str(path) in str(error), error
        record(10, refused=1)
        return
    assert here.hash(case) == here.hash("whole")
    record(10, rebuilt=1)
