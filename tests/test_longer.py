"""A longer budget for trials that were trained already: which go on from a kept checkpoint, and which are run again."""

import json

import pytest
import torch
from faults.here import Here
from pytest import approx
from sweeps_here import run_here
from test_extend import LEVELS, begin, dry, explored, study
from test_own_task import loaded
from test_sweep import Trainer, drive

from resnetlab.driver.checks.extend import check_identity
from resnetlab.driver.checks.request import look
from resnetlab.errors import BadRequest
from resnetlab.experiment.messages import Report
from resnetlab.search.optuna_sampler import OptunaSampler
from resnetlab.storage.layout import KEPT, kept_name
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table
from resnetlab.study import build_study, catalog
from resnetlab.vision.training import checkpoint
from resnetlab.vision.training.loop import Training
from resnetlab.vision.training.optim import schedule

KEPT_ON = {"keep_checkpoints": True}
MIXED = LEVELS | {"schedule": {"levels": ["constant", "cosine"]}}


class Keeper(Trainer):
    """A trainer that keeps what a task asks for, and begins where a task says. trained: epochs, by trial."""

    def __init__(self, place):
        super().__init__()
        self.folder, self.trained = ResultsFolder.at(place), {}

    def step(self, task, reported):
        kept = self.folder.read_json(f"{kept_name(task.shorter)}.json") if task.shorter else None
        if kept and not reported and task.recorded < kept["epochs"]:
            shorter = Trainer()
            for _ in range(kept["epochs"]):
                shorter.step(task, 0)
            self.epochs[task.trial_id] = shorter.epochs[task.trial_id]
            return Report(tuple(self.epochs[task.trial_id]), {"parameters": 10}, before=kept["epochs"])
        before = len(self.epochs.get(task.trial_id, ()))
        report = super().step(task, reported)
        self.trained[task.trial_id] = self.trained.get(task.trial_id, 0) + len(self.epochs[task.trial_id]) - before
        if task.stays and len(self.epochs[task.trial_id]) == task.config.epochs:
            self.folder.write(kept_name(task.trial_id), b"a state")
            self.folder.write_json(f"{kept_name(task.trial_id)}.json", {"epochs": task.config.epochs})
        return report


def run(place, one, extends=False, stage="explore"):
    """Its rows, and how many epochs were trained of each trial."""
    sweep, keeper = begin(place, one, extends, stage), Keeper(place)
    drive(sweep, keeper, slots=1)
    assert sweep.error is None
    sweep.store.close()
    return read_table(ResultsFolder.at(place), "trials").to_pylist(), keeper.trained


def same(rows):
    return [{name: value for name, value in row.items() if name != "reason"} for row in explored(rows)]


def curves(place, rows):
    ids = {row["trial_id"] for row in explored(rows)}
    found = read_table(ResultsFolder.at(place), "epochs").to_pylist()
    return [(row["trial_id"], row["epoch"], row["val_accuracy"]) for row in found if row["trial_id"] in ids]


def kept(place):
    return {name for name in ResultsFolder.at(place).names(KEPT) if name.endswith(".pt")}


# -- what depends on the budget ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(catalog.parts("schedule")))
def test_a_schedule_says_whether_it_depends_on_the_budget(name):
    config = study(more={"baseline": {"schedule": name}}).config({}, seed=0)
    multiplier = schedule(config)
    rates = [[multiplier(epoch / budget) for epoch in range(4)] for budget in (4, 12)]
    assert (rates[0] != rates[1]) == catalog.depends_on_budget(name) == config.depends_on_budget


def test_of_your_own_schedule_it_is_not_known():
    assert catalog.depends_on_budget("my.py:warm")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"more": {"baseline": {"schedule": "cosine"}}}, "schedule: cosine depends on the budget"),
        ({"factors": LEVELS | {"schedule": {"levels": ["cosine", "step"]}}, "more": {"baseline": {"schedule": "step"}}},
         "schedule: cosine, step depends on the budget"),
    ],
)  # fmt: skip
def test_nothing_is_kept_of_which_nothing_could_go_on(changes, words):
    with pytest.raises(BadRequest, match=rf"search.keep_checkpoints: {words}.*\(allowed: false\)"):
        study(**changes, **KEPT_ON)


def test_named_arms_explore_nothing_that_could_be_kept():
    arms = {"a": {"blocks": 2}, "b": {"blocks": 3}}
    content = {"name": "s", "dataset": {"name": "glyphs"}, "arms": arms, "confirm": {"design": "arms"}}
    with pytest.raises(BadRequest, match=r"search.keep_checkpoints: named arms explore nothing"):
        build_study(content | {"search": KEPT_ON}, "s.yaml")


def test_what_is_kept_is_no_part_of_what_a_study_is(tmp_path):
    assert study().study_hash == study(**KEPT_ON).study_hash
    run(tmp_path, study())
    assert check_identity(study(**KEPT_ON), ResultsFolder.at(tmp_path)) is None
    assert check_identity(study(**KEPT_ON), ResultsFolder.at(tmp_path), True) is None


# -- which go on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "grid", "quasi-random"])
@pytest.mark.parametrize("rule", [{"stopping": False}, {"audit": 0.3}, {"stopping": "asha-promotion"}])
def test_trials_that_go_on_end_as_those_of_a_study_that_asked_for_all(tmp_path, sampler, rule):
    asked = {"sampler": sampler, "trials": 7, "factors": MIXED, "grace_period": 1, "reduction_factor": 2} | rule
    if not asked.get("stopping", True):
        del asked["grace_period"], asked["reduction_factor"]
    before, _ = run(tmp_path / "grown", study(**asked, **KEPT_ON))
    held = kept(tmp_path / "grown")
    rows = {row["trial_id"]: row for row in before}
    whole = {row["trial_id"] for row in before if row["status"] == "complete"}
    assert held == {f"{name}.pt" for name in whole if rows[name]["schedule"] == "constant"} and held
    grown, trained = run(tmp_path / "grown", study(**asked, epochs=8), extends=True)
    plain, trained_whole = run(tmp_path / "whole", study(**asked, epochs=8))
    assert same(grown) == same(plain) and curves(tmp_path / "grown", grown) == curves(tmp_path / "whole", plain)
    saved = sum(trained_whole.values()) - sum(trained.values())
    done = {row["seed"]: row["epochs_run"] for row in plain}
    assert saved == sum(min(done[rows[name.removesuffix(".pt")]["seed"]], 3) for name in held)
    complete = {row["seed"] for row in grown if row["status"] == "complete"}
    assert kept(tmp_path / "grown") == {name for name in held if rows[name[:-3]]["seed"] not in complete}


def test_the_dry_run_says_how_many_go_on_and_why_others_do_not(tmp_path):
    rule = {"stopping": True, "grace_period": 1, "reduction_factor": 2, "audit": 0.2}
    asked = {"factors": MIXED, "trials": 8} | rule
    before, _ = run(tmp_path, study(**asked, **KEPT_ON))
    whole = [row for row in before if row["status"] == "complete"]
    constant = [row for row in whole if row["schedule"] == "constant"]
    lost = kept(tmp_path).pop()
    ResultsFolder.at(tmp_path).delete(f"{KEPT}/{lost}")
    said = dry(tmp_path, study(**asked, epochs=9, confirm={"pilot": 2}))
    many = len(constant) - 1
    assert many > 1 and len(whole) < 8 and f"{many} explore trials go on from kept checkpoints" in said
    assert f"{8 - many} explore trials run again: " in said and "1 without a kept checkpoint" in said
    assert f"{8 - len(whole)} stopped, failed or interrupted before epoch 3" in said
    assert f"{len(whole) - len(constant)} with a schedule that depends on the budget" in said
    assert "pilot runs are run again" in said and "keep their settings" not in said
    grown, _ = run(tmp_path, study(**asked, epochs=9), extends=True)
    assert len(explored(grown)) == 8


@pytest.mark.parametrize("sampler", ["tpe", "gp", "linear"])
def test_a_sampler_that_learns_keeps_the_settings_of_those_that_go_on(tmp_path, sampler):
    tuned = {"kernel": {"levels": [3, 5]}, "lr": {"low": 0.01, "high": 0.5, "log": True}}
    asked = {"factors": tuned, "trials": 9, "sampler": sampler}
    before, _ = run(tmp_path, study(**asked, **KEPT_ON))
    for row in before[::2]:
        ResultsFolder.at(tmp_path).delete(kept_name(row["trial_id"]))
    assert f"those that go on keep their settings; {sampler} proposes" in dry(tmp_path, study(**asked, epochs=6))
    grown, trained = run(tmp_path, study(**asked, epochs=6), extends=True)
    now = {row["number"]: row for row in explored(grown)}
    assert len(now) == 9
    for old in before[1::2]:
        new = now[old["number"]]
        assert (new["kernel"], new["lr"]) == (old["kernel"], old["lr"]) and trained[new["trial_id"]] == 3


def test_points_that_go_on_are_proposed_to_nobody_else():
    search = OptunaSampler(study())
    *reserved, left = [{"blocks": blocks, "kernel": kernel} for blocks in (2, 3) for kernel in (3, 5)]
    search.reserve(reserved)
    assert search.ask(1)[1] == left
    assert [search.ask(number, point)[1] for number, point in enumerate(reserved, 2)] == reserved


def test_they_go_on_twice(tmp_path):
    for epochs in (2, 4, 8):
        rows, trained = run(tmp_path, study(epochs=epochs, **KEPT_ON), extends=epochs > 2)
        assert set(trained.values()) == {max(2, epochs // 2)}
        assert kept(tmp_path) == {f"{row['trial_id']}.pt" for row in explored(rows)}
    plain, _ = run(tmp_path / "whole", study(epochs=8))
    assert same(rows) == same(plain)


def test_further_trials_and_levels_may_be_asked_for_at_once(tmp_path):
    run(tmp_path, study(**KEPT_ON))
    new = study(LEVELS | {"pool": {"levels": ["average", "flatten"]}}, trials=6, epochs=6)
    grown, trained = run(tmp_path, new, extends=True)
    assert sorted(trained[row["trial_id"]] for row in explored(grown)) == [3] * 4 + [6] * 2


def test_a_task_of_your_own_is_run_again_and_said_so(tmp_path):
    def one(epochs):
        search = {"search.epochs": epochs, "search.stopping": False, "search.audit": 0.0}
        return loaded(tmp_path / "study", **search)

    old, new = one(2), one(4)
    run_here(old, tmp_path / "results", tmp_path / "cache", extends=False)
    folder = ResultsFolder.at(tmp_path / "results")
    held = {row["data_hash"] for row in read_table(folder, "trials").to_pylist()}
    lines = look(new, folder, held, {}, "all", extension=check_identity(new, folder, True))
    assert "every explore trial and pilot run is run again: 2 of a task of your own" in " ".join(lines)


# -- real training -----------------------------------------------------------------------------------------------------

TINY = {
    "name": "s",
    "dataset": {"name": "glyphs", "variants": 1, "limit": 200},
    "baseline": {"blocks": 1, "width": 4, "downsample": 1, "batch_size": 32, "lr": 0.05, "dropout": 0.2, "crop": 2},
    "factors": {"optimizer": {"levels": ["sgd", "adamw"]}, "schedule": {"levels": ["constant", "cosine"]}},
    "confirm": {"design": "none"},
}


def tiny(epochs, keep=True, **search):
    asked = {"trials": 4, "epochs": epochs, "sampler": "grid", "stopping": False, "audit": 0} | search
    return build_study(TINY | {"search": asked | {"keep_checkpoints": keep}}, "s.yaml")


def trained_epochs(monkeypatch):
    """Of each trial, the epochs that were trained."""
    found, real = {}, Training.run_epoch

    def counted(training):
        found.setdefault(training.config.trial_id, []).append(training.epoch + 1)
        return real(training)

    monkeypatch.setattr(Training, "run_epoch", counted)
    return found


def bits(place, rows):
    """The numbers and last states of the explore trials."""
    folder, varying = ResultsFolder.at(place), ("second", "memory")
    ids = {row["trial_id"] for row in explored(rows)}
    epochs = [
        {name: value for name, value in row.items() if not any(word in name for word in varying)}
        for row in read_table(folder, "epochs").to_pylist()
        if row["trial_id"] in ids
    ]
    return epochs, {name: checkpoint.load(folder.read(f"{KEPT}/{name}")) for name in folder.names(KEPT)}


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return one == other


def test_a_network_that_goes_on_is_the_same_in_every_bit(tmp_path, monkeypatch):
    run_here(tiny(2), tmp_path / "grown", tmp_path / "cache", extends=False)
    trained = trained_epochs(monkeypatch)
    grown = run_here(tiny(5), tmp_path / "grown", tmp_path / "cache", extends=True)
    again = {trial_id: list(epochs) for trial_id, epochs in trained.items()}
    whole = run_here(tiny(5), tmp_path / "whole", tmp_path / "cache", extends=False)
    (epochs, states), (epochs_whole, states_whole) = bits(tmp_path / "grown", grown), bits(tmp_path / "whole", whole)
    assert epochs == epochs_whole and len(epochs) == 4 * 5
    assert states.keys() == states_whole.keys() and len(states) == 2
    for name, state in states.items():
        assert equal(state["model"], states_whole[name]["model"])
        assert equal(state["optimizer"], states_whole[name]["optimizer"])
    for row in explored(grown):
        goes_on = row["schedule"] == "constant"
        assert again[row["trial_id"]] == ([3, 4, 5] if goes_on else [1, 2, 3, 4, 5])
        assert ("went on from epoch 2 of trial" in row["reason"]) == goes_on
        assert row["epochs_run"] == 5 and not row["restarts"] and row["status"] == "complete"
    old = {row["trial_id"] for row in grown if row["status"] == "replaced"}
    assert all(any(name in row["reason"] for name in old) for row in explored(grown) if row["schedule"] == "constant")


@pytest.mark.parametrize(("optimizer", "size"), [({"momentum": 0.0}, 4), ({}, 8), ({"optimizer": "adamw"}, 12)])
def test_the_size_of_what_is_kept(tmp_path, optimizer, size):
    """As docs/results.md says it, in bytes for each parameter."""
    baseline = {"blocks": 2, "width": 64, "batch_size": 200} | optimizer
    content = TINY | {"baseline": baseline, "factors": {"flip": {"levels": [True, False]}}}
    one = build_study(content | {"search": {"trials": 1, "epochs": 1} | KEPT_ON}, "s.yaml")
    (row,) = run_here(one, tmp_path, tmp_path / "cache")
    assert len(ResultsFolder.at(tmp_path).read(kept_name(row["trial_id"]))) / row["parameters"] == approx(
        size, rel=0.05
    )


@pytest.mark.parametrize("damage", ["altered", "gone while it ran", "of another trial"])
def test_a_kept_checkpoint_that_cannot_be_used_is_told_and_the_trial_begins_again(tmp_path, damage, monkeypatch):
    run_here(tiny(1, trials=1), tmp_path / "grown", tmp_path / "cache", extends=False)
    folder = ResultsFolder.at(tmp_path / "grown")
    (name,) = folder.names(KEPT)
    raw = bytearray(folder.read(f"{KEPT}/{name}"))
    if damage == "altered":
        raw[-9] ^= 1
    elif damage == "of another trial":
        raw = checkpoint.save(checkpoint.load(bytes(raw)) | {"trial_id": "0" * 12})
    folder.write(f"{KEPT}/{name}", bytes(raw))
    if damage == "gone while it ran":
        monkeypatch.setattr(ResultsFolder, "read", lambda self, at, most=2**40, read=ResultsFolder.read: (
            None if at == f"{KEPT}/{name}" else read(self, at, most)))  # fmt: skip
    grown = run_here(tiny(2, trials=1), tmp_path / "grown", tmp_path / "cache", extends=True)
    whole = run_here(tiny(2, trials=1), tmp_path / "whole", tmp_path / "cache", extends=False)
    assert same(grown)[0]["val_accuracy"] == same(whole)[0]["val_accuracy"]
    (row,) = explored(grown)
    assert "began again: a checkpoint could not be used" in row["reason"] and f"{KEPT}/{name}: " in row["reason"]


def test_a_trial_that_the_longer_budget_stops_is_trained_no_further(tmp_path, monkeypatch):
    """A rung of the longer budget lies within the epochs that were trained."""
    rule = {"stopping": True, "grace_period": 2, "reduction_factor": 2}
    asked = {"sampler": "random", "trials": 6, "repeat": True}
    here = {"factors": {"lr": {"low": 0.0001, "high": 0.1, "log": True}}}

    def one(epochs, **more):
        search = {"epochs": epochs, "audit": 0, "keep_checkpoints": True, **asked, **more}
        return build_study(TINY | here | {"search": search}, "s.yaml")

    run_here(one(2, **rule), tmp_path, tmp_path / "cache", extends=False)
    trained = trained_epochs(monkeypatch)
    rows = explored(run_here(one(4, **rule), tmp_path, tmp_path / "cache", extends=True))
    stopped = [row for row in rows if row["status"] == "stopped"]
    assert stopped and all(row["epochs_run"] == 2 and row["trial_id"] not in trained for row in stopped)
    assert json.loads((tmp_path / "study.json").read_text())["search"]["keep_checkpoints"]


@pytest.mark.parametrize("publish", [None, 1])
@pytest.mark.parametrize("after", range(6))
def test_a_crash_while_it_goes_on_loses_nothing(tmp_path, monkeypatch, after, publish):
    content = TINY | {"search": {"trials": 2, "epochs": 2, "sampler": "grid", "stopping": False, "audit": 0} | KEPT_ON}
    content["factors"] = {"optimizer": {"levels": ["sgd", "adamw"]}}
    longer = content | {"search": content["search"] | {"epochs": 4}}
    here = Here(tmp_path, monkeypatch, content)
    here.run("grown")
    here.study, here.extend = build_study(longer, "study.yaml"), True
    trained = trained_epochs(monkeypatch)
    here.crash("grown", after, publish)
    place = here.run("grown")
    rows = read_table(ResultsFolder.at(place), "trials").to_pylist()
    mine = {trial_id: list(epochs) for trial_id, epochs in trained.items()}
    here.extend = False
    whole = here.run("whole")
    assert bits(place, rows)[0] == bits(whole, read_table(ResultsFolder.at(whole), "trials").to_pylist())[0]
    assert mine.keys() == {row["trial_id"] for row in explored(rows)} and len(mine) == 2
    assert all({*epochs} == {3, 4} for epochs in mine.values())
    again = sum(map(len, mine.values())) - 4
    assert again <= (after % 3 == 1)  # the first report of each has what was trained before, the last is always kept
    assert {f"{row['trial_id']}.pt" for row in explored(rows)} == kept(place) == kept(whole)
