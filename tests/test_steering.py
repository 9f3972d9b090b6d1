"""A sweep that is asked to pause, to go on and to stop, driven by a fake trainer: nothing is lost, nothing runs on."""

import random

import pytest
from test_sweep import Trainer, drive, start, tables

from resnetlab.driver.steering import Steering
from resnetlab.errors import Stopped
from resnetlab.ray_backend.capacity import Capacity
from resnetlab.storage.control import Requests, ask
from resnetlab.study import Resources

NODE = {"NodeID": "n", "Alive": True, "Resources": {"CPU": 2.0}}


class Steered:
    """A sweep and its steering. What the backend does with Tune is done here, epoch by epoch."""

    def __init__(self, place, monkeypatch, most=None):
        monkeypatch.setattr("resnetlab.storage.control.POLL", 0.0)
        self.sweep, self.trainer, self.working = start(place), Trainer(), []
        self.folder = self.sweep.store.folder
        self.folder.write("study.json", b"{}")
        self.capacity = Capacity(Resources(), lambda: [NODE], print, most)
        self.steering = Steering(self.sweep, self.capacity, lambda: "continue with: x")

    def step(self):
        """Look, hand out what may be handed out, and train one epoch; False if nothing trains."""
        self.steering.tick()
        sweep, working = self.sweep, self.working
        while len(sweep.running) < min(self.capacity.limit, 2) and (task := sweep.next()) is not None:
            sweep.started(task.trial_id)
            working.append([task, len(self.trainer.epochs.get(task.trial_id, []))])
        if not working:
            return False
        job = working.pop(0)
        report = self.trainer.step(*job)
        if sweep.report(job[0].trial_id, report):
            if len(sweep.running) > self.capacity.bound:
                sweep.hand_back(job[0].trial_id)
            else:
                working.append([job[0], job[1] + len(report.epochs)])
        return True

    def notes(self):
        found = list(self.sweep.notes)
        self.sweep.notes.clear()
        return found


def test_a_sweep_pauses_after_the_epochs_that_train_and_goes_on(tmp_path, monkeypatch):
    one = Steered(tmp_path, monkeypatch)
    for _ in range(5):
        assert one.step()
    epochs = one.sweep.progress.epochs
    ask(one.folder, "pause")
    assert one.step() and one.sweep.asked == "pause" and not one.sweep.paused
    assert one.step() and not one.step() and one.sweep.paused and one.sweep.progress.epochs == epochs + 2
    asked, paused = one.notes()
    assert asked.startswith("asked to pause (host ") and asked.endswith("trials end after the epoch that they train")
    assert paused.startswith("paused; continue with: ") and "resume" in paused
    assert not one.step() and one.notes() == [] and one.steering.paused_seconds > 0
    assert {row["status"] for row in one.sweep.store.trials.values() if not row["ended"]} == {"waiting"}
    ask(one.folder, "resume")
    while one.step():
        pass
    assert one.sweep.finished and one.sweep.asked == "" and one.notes()[0] == "resumed"
    spent = one.steering.paused_seconds
    assert spent == one.steering.paused_seconds  # does not go on


def test_a_pause_that_is_withdrawn_before_it_began(tmp_path, monkeypatch):
    one = Steered(tmp_path, monkeypatch)
    one.step()
    ask(one.folder, "pause")
    one.step()
    ask(one.folder, "resume")
    assert one.step() and not one.sweep.asked and one.steering.paused_seconds == 0


@pytest.mark.parametrize("before", ["", "pause"])
def test_a_sweep_that_is_asked_to_stop_ends_once_nothing_trains(tmp_path, monkeypatch, before):
    one = Steered(tmp_path, monkeypatch)
    for _ in range(3):
        one.step()
    if before:
        ask(one.folder, before)
        while one.step():
            pass
    ask(one.folder, "stop")
    with pytest.raises(Stopped, match=r"interrupted by resnetlab stop \(host .*, pid \d+\); continue with: x"):
        while True:
            one.step()
    assert not one.sweep.with_workers and Requests(one.folder, one.sweep.store.lease.fence).read() is None
    assert Stopped.exit_code == 130


def test_no_more_trials_run_than_are_allowed(tmp_path, monkeypatch):
    one, most = Steered(tmp_path, monkeypatch, most=1), 0
    while one.step():
        most = max(most, len(one.working))
    assert one.sweep.finished and most == 1


@pytest.mark.parametrize("seed", range(8))
def test_asked_and_killed_at_any_moment_a_sweep_has_the_tables_of_one_that_was_left_alone(tmp_path, monkeypatch, seed):
    """With one worker, so that reports come in one order."""
    whole = start(tmp_path / "whole")
    assert drive(whole, Trainer(), slots=1)
    whole.store.close()
    rng, trainer, kills = random.Random(seed), Trainer(), 0
    while True:
        one = Steered(tmp_path / "asked", monkeypatch, most=1)
        one.trainer = trainer
        paused = False
        while (went := one.step()) or not one.sweep.finished:
            if not went or rng.random() < 0.3:
                paused = not paused
                ask(one.folder, "pause" if paused else "resume")
            if kills < 5 and rng.random() < 0.1:
                break
        if one.sweep.finished:
            one.sweep.store.close()
            break
        kills += 1
        one.sweep.store.flush()
        one.sweep.store.lease.release()
    assert kills
    for name, table in tables(tmp_path / "whole").items():
        assert tables(tmp_path / "asked")[name].equals(table), name
