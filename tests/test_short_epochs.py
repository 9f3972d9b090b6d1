"""Short epochs of images are reported together, as far as no decision waits for one of them."""

from pathlib import Path

import pytest

from resnetlab.experiment import messages
from resnetlab.experiment.messages import Task, TrialContext
from resnetlab.study.data_config import DataConfig
from resnetlab.study.records import Phase, Status
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.data import prepare

DATA = DataConfig(name="glyphs", variants=1, limit=300)
CLOCKS = {"train_seconds", "eval_seconds", "images_per_second", "peak_memory"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def reports(place, cache, phase=Phase.CONFIRM, decided=(), **changes):
    """All that a worker says of one trial."""
    from resnetlab.ray_backend.worker import TrialWorker

    config = TrialConfig(data=DATA, model="mlp", batch_size=64, epochs=4, **{"lr": 0.05, "seed": 1} | changes)
    data = prepare(DATA, cache).hash
    task = Task(config.trial_id, config, phase, test=not phase.searched, data_hash=data, decided=decided)
    context = TrialContext(str(place), cache, cpus=1, gpus=0, epoch_timeout_s=800)
    worker = TrialWorker({"task": task, "context": context})
    found = [worker.step()["report"]]
    while not found[-1].ending and sum(len(report.epochs) for report in found) < config.epochs:
        found.append(worker.step()["report"])
    return found


def numbers(found):
    """What lasts of the epochs of all reports."""
    rows = [epoch.as_row() for report in found for epoch in report.epochs]
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows]


def many(found):
    return [len(report.epochs) for report in found]


def test_the_numbers_are_the_same_however_many_epochs_a_report_has(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(messages, "REPORTS_AFTER", 60.0)
    together = reports(tmp_path / "together", cache)
    monkeypatch.setattr(messages, "REPORTS_AFTER", 0.0)
    alone = reports(tmp_path / "alone", cache)
    assert many(together) == [4] and many(alone) == [1, 1, 1, 1] and numbers(together) == numbers(alone)
    assert together[0].test.accuracy == alone[-1].test.accuracy and alone[0].test is None
    assert together[0].busy_seconds >= sum(epoch.train_seconds for epoch in together[0].epochs)


def test_an_epoch_at_which_a_rule_decides_is_the_last_of_its_report(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(messages, "REPORTS_AFTER", 60.0)
    assert many(reports(tmp_path, cache, Phase.EXPLORE, decided=(1, 3))) == [1, 2, 1]


def test_reports_come_well_within_the_time_limit_of_an_epoch(tmp_path, cache, monkeypatch):
    context = TrialContext(str(tmp_path), cache, cpus=1, gpus=0, epoch_timeout_s=5)
    assert context.reports_after == 0.5


def test_epochs_before_one_that_fails_are_reported_with_its_end(tmp_path, cache, monkeypatch):
    from resnetlab.vision.training.loop import Diverged, Training

    train = Training.run_epoch

    def fails(training):
        if training.epoch == 2:
            raise Diverged(f"trial {training.config.trial_id}, epoch 3: loss is nan")
        return train(training)

    monkeypatch.setattr(messages, "REPORTS_AFTER", 60.0)
    expected = numbers(reports(tmp_path / "whole", cache))[:2]
    monkeypatch.setattr(Training, "run_epoch", fails)
    (report,) = reports(tmp_path / "fails", cache)
    assert report.ending.status is Status.DIVERGED and numbers([report]) == expected
    assert report.columns["parameters"] > 0 and report.test is None


def test_a_test_split_that_fails_loses_no_epoch(tmp_path, cache, monkeypatch):
    from resnetlab.vision.training.loop import Training

    def fails(training):
        raise MemoryError("can't allocate memory")

    monkeypatch.setattr(messages, "REPORTS_AFTER", 60.0)
    monkeypatch.setattr(Training, "test", fails)
    (report,) = reports(tmp_path, cache)
    assert report.ending.status is Status.OUT_OF_MEMORY and len(report.epochs) == 4
