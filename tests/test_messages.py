"""Messages between a sweep and its workers arrive unchanged, and an error becomes the right ending."""

import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

from resnetlab.errors import END_THE_SWEEP, BadData, OtherData
from resnetlab.experiment.messages import MOST_TRACEBACK, Ending, Report, Task, TrialContext
from resnetlab.study.records import EpochRecord, Phase, Status, TestResult
from resnetlab.study.trial_config import TrialConfig

CONFIG = TrialConfig(data={"name": "glyphs", "variants": 2}, lr=0.05, weights="trial:0123456789ab")
EPOCH = EpochRecord(1, 2.0, 0.3, 2.1, 0.25, 0.1, 1.5, 0.2, 3e3, 1 << 20)


@pytest.mark.parametrize(
    "message",
    [
        Task(CONFIG.trial_id, CONFIG, Phase.CONFIRM, True, "d", source_data=CONFIG.data, recorded=3),
        TrialContext("s3://bucket/x", Path("/cache"), 0.5, 0.25, 600.0, {"torch": "2"}, contents={"resnet18 X": "h"}),
        Ending.of(OtherData("node a sees other data")),
        Report((EPOCH,), {"device": "cpu"}, note="began again", restarted=True, busy_seconds=1.5),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_arrives_as_it_was_sent_and_cannot_be_altered(message):
    arrived = pickle.loads(pickle.dumps(message))
    assert arrived == message and type(arrived) is type(message)
    with pytest.raises(FrozenInstanceError):
        arrived.status = None


def test_a_task_that_arrived_is_the_same_trial_from_the_same_source():
    task = pickle.loads(pickle.dumps(Task(CONFIG.trial_id, CONFIG, Phase.CONFIRM, True)))
    assert task.config.trial_id == CONFIG.trial_id and task.source == "0123456789ab"
    assert task.config.data.model_fields_set == CONFIG.data.model_fields_set


def test_a_test_result_arrives_with_its_arrays():
    sent = TestResult(0.5, 1.0, np.arange(4) % 2, np.zeros(4, int), np.arange(4))
    arrived = pickle.loads(pickle.dumps(Report(test=sent))).test
    for name in ("predictions", "labels", "image"):
        np.testing.assert_array_equal(getattr(arrived, name), getattr(sent, name))


class Diverged(Exception):
    """As the training loop's, which is known by its name."""


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "status", "reason", "with_traceback"),
    [
        (Diverged("epoch 2: loss is nan"), Status.DIVERGED, "epoch 2: loss is nan", False),
        (BadData("x.csv: damaged"), Status.FAILED, "x.csv: damaged", True),
        (MemoryError("no room\nmore"), Status.OUT_OF_MEMORY, "MemoryError: no room", True),
        (RuntimeError("can't allocate memory: 9 GB"), Status.OUT_OF_MEMORY, "RuntimeError: can't allocate", True),
        (ValueError("odd"), Status.FAILED, "ValueError: odd (test_messages.py:", True),
        (ValueError("x" * 2 * MOST_TRACEBACK), Status.FAILED, "ValueError: x", True),
    ],
    ids=["diverged", "our own error", "memory", "torch's memory", "a bug", "a long message"],
)
def test_an_error_ends_the_trial_with_its_status_its_reason_and_where_it_helps_its_traceback(
    error, status, reason, with_traceback
):
    ending = Ending.of(raised(error))
    assert ending.status is status and ending.reason.startswith(reason)
    assert bool(ending.traceback) is with_traceback and len(ending.traceback) <= MOST_TRACEBACK
    assert ending.ends_sweep is None


@pytest.mark.parametrize("kind", END_THE_SWEEP.values())
def test_what_no_other_trial_would_fare_better_with_ends_the_sweep(kind):
    ending = Ending.of(raised(kind("why")))
    assert (ending.status, ending.reason, ending.ends_sweep) == (Status.INTERRUPTED, "why", kind)
