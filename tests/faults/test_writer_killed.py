"""SIGKILL of a process that writes rows, at random moments: every flushed row is there once, unchanged."""

import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_store import epoch_row, trial_row

from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store, read_table


def value(epoch):
    return float(random.Random(epoch).random())


def write_forever(place, acknowledged):
    store = Store(ResultsFolder.at(place), ("kernel",))
    epoch = acknowledged.value
    while True:
        epoch += 1
        store.add("trials", trial_row("a", 0, epochs_run=epoch))
        for repeated in (epoch - 1, epoch):  # as a trial does that lost an epoch
            if repeated:
                store.add("epochs", epoch_row("a", repeated) | {"val_loss": value(repeated)})
        store.flush()
        acknowledged.value = epoch
        if epoch % 5 == 0:
            store.publish()


@pytest.fixture
def memory():
    """A folder in memory: SIGKILL leaves what was written, so that a disk would only take longer."""
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield place
    shutil.rmtree(place)


@pytest.mark.experiment(12)
@pytest.mark.parametrize("kills", [pytest.param(200, marks=pytest.mark.campaign)])
def test_a_writer_killed_at_random_moments(memory, record, kills):
    context = multiprocessing.get_context("fork")
    acknowledged = context.Value("q", 0)
    chance = random.Random(12)
    lost = doubled = wrong = 0
    for _ in range(kills):
        before = acknowledged.value
        writer = context.Process(target=write_forever, args=(memory, acknowledged))
        writer.start()
        started = time.monotonic()
        while acknowledged.value == before and writer.is_alive():
            time.sleep(0.0005)
        opening = time.monotonic() - started  # what lies there unpublished makes it longer, and publishing too
        time.sleep(chance.random() * max(0.04, 2 * opening))
        assert writer.is_alive()
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        rows = read_table(ResultsFolder.at(memory), "epochs").select(["epoch", "val_loss"]).to_pylist()
        epochs = [row["epoch"] for row in rows]
        lost += len(set(range(1, acknowledged.value + 1)) - set(epochs))
        doubled += len(epochs) - len(set(epochs))
        wrong += sum(row["val_loss"] != value(row["epoch"]) for row in rows)
        (trial,) = read_table(ResultsFolder.at(memory), "trials").to_pylist()
        lost += trial["epochs_run"] < acknowledged.value
    Store(ResultsFolder.at(memory), ("kernel",)).close()
    file = pq.read_table(memory / "epochs.parquet")["epoch"].to_pylist()
    doubled += len(file) - len(set(file))
    record(12, kills=kills, rows=len(file), lost=lost, doubled=doubled, wrong=wrong)
    assert (lost, doubled, wrong) == (0, 0, 0) and len(file) >= kills
