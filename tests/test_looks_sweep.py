"""Looks at the confirm runs while a sweep runs: what is asked for, recorded, stopped and continued."""

import random

import numpy as np
import pytest

from resnetlab.analysis.confirm.looks_taken import of_rows
from resnetlab.errors import BadRequest
from resnetlab.experiment.messages import Ending, Report
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store, read_table
from resnetlab.study import build_study
from resnetlab.study.records import EpochRecord, Phase, Status, TestResult
from resnetlab.sweep.plan_store import read_plan
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import one_dataset

FACTS = {"git_revision": "g", "versions": "{}"}
IMAGES = 4000
ARMS = {"plain": {}, "wide": {"width": 32}, "deep": {"blocks": 4}}
MEANS = {"plain": 0.70, "wide": 0.76, "deep": 0.7015}


def study(confirm=None, arms=None, **search):
    content = {"name": "s", "dataset": {"name": "glyphs"}, "search": {"trials": 4, "epochs": 1, **search}}
    if arms is None:
        content["factors"] = {name: {"levels": levels} for name, levels in (("blocks", [2, 3]), ("kernel", [3, 5]))}
        design = {"design": "factorial"}
    else:
        content["arms"], design = arms, {"design": "arms"}
    return build_study(content | {"confirm": {"seeds": 8, "looks": "blocks", **design, **(confirm or {})}}, "s.yaml")


def accuracy(config, arm=""):
    """Kernel 5 is 6 points better; blocks do nothing; seeds spread by 0.3 points."""
    noise = np.random.default_rng([config.seed % 2**32, config.blocks, config.kernel, config.width]).normal(0, 0.003)
    return (MEANS.get(arm) or 0.70 + 0.06 * (config.kernel == 5)) + noise


def report(config, test, arm="", fails=lambda config: False):
    if fails(config):
        return Report(ending=Ending(Status.FAILED, "its process died"))
    value = accuracy(config, arm)
    fill = dict.fromkeys(("train_loss", "train_accuracy", "val_loss", "lr", "images_per_second"), 0.5)
    epoch = EpochRecord(epoch=1, val_accuracy=value, train_seconds=1.0, eval_seconds=0.1, peak_memory=1, **fill)
    labels = np.arange(IMAGES) % 2
    predicted = np.where(np.arange(IMAGES) < round(value * IMAGES), labels, 1 - labels)
    result = TestResult(value, 1.0, predicted, labels, np.arange(IMAGES)) if test else None
    return Report((epoch,), {"parameters": 10}, test=result)


def start(path, the_study=None, **options):
    s = the_study or study()
    return Sweep(s, Store(ResultsFolder.at(path), s.columns), FACTS, one_dataset(s, "d", ["a", "b"]), **options)


def drive(sweep, slots=3, steps=None, seed=0, fails=lambda config: False):
    """Run with so many workers, reports in any order, to the end or for `steps` trials; True where it ended."""
    rng, working = random.Random(seed), []
    while True:
        while len(working) < slots and (task := sweep.next()) is not None:
            working.append(task)
        if not working:
            return sweep.finished
        if steps is not None:
            if steps == 0:
                return False
            steps -= 1
        task = working.pop(rng.randrange(len(working)))
        arm = sweep.store.trials[task.trial_id]["arm"] if sweep.study.arms else ""
        sweep.report(task.trial_id, report(task.config, task.test, arm, fails))


def confirm(path):
    return [row for row in read_table(ResultsFolder.at(path), "trials").to_pylist() if row["phase"] == Phase.CONFIRM]


def looks(path):
    return read_table(ResultsFolder.at(path), "looks").to_pylist()


def test_a_crossed_design_stops_where_every_main_effect_is_settled(tmp_path):
    sweep = start(tmp_path)
    assert drive(sweep)
    sweep.store.close()
    rows, seen = confirm(tmp_path), looks(tmp_path)
    last = max(row["block"] for row in seen)
    assert 2 <= last < 8 and len(rows) == 4 * last and {row["seed_block"] for row in rows} == set(range(last))
    final = {row["name"]: row for row in seen if row["block"] == last}
    assert {final[name]["decision"] for name in final if final[name]["primary"]} <= {
        "effect", "equivalent", "not resolvable",
    }  # fmt: skip
    assert all(row["arms"] == 0 for row in final.values())
    assert all(row["arms"] == 4 for row in seen if row["block"] < last)
    kernel = next(row for name, row in final.items() if name.startswith("kernel: "))
    assert kernel["decision"] == "effect" and kernel["low"] <= kernel["estimate"] <= kernel["high"]
    assert sweep.progress.confirm_planned == len(rows)
    assert [row["look"] for row in seen] == sorted(row["look"] for row in seen)


def test_no_run_of_a_block_starts_before_the_look_at_the_blocks_before_it(tmp_path):
    sweep = start(tmp_path)
    began: dict[str, int] = {}
    while (task := sweep.next()) is not None or sweep.running:
        if task is None:
            task = next(iter(sweep.running.values()))
        row = sweep.store.trials[task.trial_id]
        if row["phase"] == Phase.CONFIRM:
            block = row["seed_block"]
            ended = [
                other for other in sweep.store.trials.values()
                if other["phase"] == Phase.CONFIRM and other["seed_block"] < block
            ]  # fmt: skip
            assert block < 2 or all(Status(other["status"]).ended for other in ended)
            began[task.trial_id] = block
        sweep.report(task.trial_id, report(task.config, task.test))
    assert sweep.finished and max(began.values()) >= 1


@pytest.mark.parametrize("seed", range(4))
def test_a_sweep_killed_at_any_moment_takes_the_same_decisions(tmp_path, seed):
    whole = start(tmp_path / "whole", study(arms=ARMS))
    assert drive(whole, slots=1)
    whole.store.close()
    rng, kills = random.Random(seed), 0
    while True:
        sweep = start(tmp_path / "killed", study(arms=ARMS))
        done = drive(sweep, slots=rng.choice((1, 3)), steps=rng.randrange(1, 6), seed=rng.random())
        sweep.store.flush() if rng.random() < 0.5 else None
        sweep.store.lease.release()
        kills += not done
        if done:
            sweep.store.close()
            break
    assert kills > 1
    assert looks(tmp_path / "whole") == looks(tmp_path / "killed")
    plan = read_plan(ResultsFolder.at(tmp_path / "killed").read("plan.json"), "p")
    same = {(row["design_row"], row["seed_block"]) for row in confirm(tmp_path / "killed")}
    taken = of_rows(plan, read_table(ResultsFolder.at(tmp_path / "killed"), "trials").to_pylist())
    assert same == set(zip(*np.nonzero(taken.needed), strict=True)) and taken.stopped


def test_single_arms_stop_and_the_first_runs_with_the_last(tmp_path):
    sweep = start(tmp_path, study(arms=ARMS, confirm={"delta": 0.5}))
    assert drive(sweep)
    sweep.store.close()
    runs = {arm: [row["seed_block"] for row in confirm(tmp_path) if row["arm"] == arm] for arm in ARMS}
    assert len(runs["wide"]) < len(runs["deep"]) == len(runs["plain"])
    wide = [row for row in looks(tmp_path) if row["name"] == "arm: wide - plain"]
    assert wide[-1]["decision"] == "effect" and wide[-1]["block"] == len(runs["wide"])


def test_the_plan_hashes_the_looks_and_only_where_there_are_some(tmp_path):
    sweep = start(tmp_path)
    drive(sweep)
    looks_ = sweep.plan.content()["looks"]
    assert sorted(looks_["primaries"][0]) and looks_["stops"] == "all" and looks_["futility"] == 0.1
    changed = sweep.plan.model_copy(update={"looks": sweep.plan.looks.model_copy(update={"futility": 0.2})})
    assert changed.plan_hash != sweep.plan.plan_hash
    plain = start(tmp_path / "plain", study({"looks": "none"}))
    drive(plain)
    assert "looks" not in plain.plan.content() and "looks" not in plain.plan.content()["asked"]
    assert len(plain.plan.arms) * 8 == sum(row["phase"] == Phase.CONFIRM for row in plain.store.trials.values())


def test_a_source_runs_as_long_as_an_arm_that_starts_from_it(tmp_path):
    arms = {
        "plain": {}, "other": {"data": {"label": "font"}}, "from-other": {"source": "other"},
        "wide": {"width": 32},
    }  # fmt: skip
    found = study(arms=arms)
    from resnetlab.planning.making import make_plan

    plan = make_plan(found, [], "d", "c")
    assert plan.looks.sources == {"from-other": "other"} and plan.looks.stops == "arms"


def test_what_a_look_counted_as_lost_is_not_run_again(tmp_path):
    first: list = []

    def fails(config):
        if config.kernel == 5 and not first and sweep.plan is not None:
            first.append(config.seed)
        return bool(first) and config.kernel == 5 and config.seed == first[0] and sweep.plan is not None

    sweep = start(tmp_path, study({"delta": 0.01}))
    drive(sweep, slots=1, steps=4 + 4 * 3 + 1, fails=fails)
    sweep.store.close()
    assert any(row["status"] == "failed" for row in confirm(tmp_path))
    again = start(tmp_path, study({"delta": 0.01}), retry=True)
    assert any("look has counted" in note for note in again.notes)
    assert any(row["status"] == "failed" for row in again.store.trials.values())


@pytest.mark.parametrize(
    ("confirm", "said"),
    [
        ({"seeds": 1}, "3 to 100 seeds, got seeds=1"),
        ({"seeds": 2}, "3 to 100 seeds, got seeds=2"),
        ({"seeds": 101}, "got seeds=101"),
        ({"alpha": 1e-9}, "takes alpha of at least 1e-06, got 1e-09"),
        ({"primaries": ["width"]}, "confirm.primaries: 'width' is not compared (allowed: blocks, kernel)"),
        ({"primaries": ["kernel"], "looks": "none"}, "primaries: is for looks (allowed: with looks: blocks)"),
        ({"reestimate": True, "seeds": 7}, "of at least 8 seeds, got design=factorial, seeds=7"),
        ({"reestimate": True, "design": "one-factor"}, "got design=one-factor"),
        ({"reestimate": True, "looks": "none"}, "reestimate: is for looks"),
        ({"design": "none"}, "nothing is confirmed"),
        ({"looks": "weekly"}, "looks"),
    ],
)
def test_looks_that_cannot_be_are_refused(confirm, said):
    with pytest.raises(BadRequest) as error:
        study(confirm)
    assert said in str(error.value) and "confirm" in str(error.value)


def test_the_first_named_arm_is_no_primary():
    with pytest.raises(BadRequest, match="'plain' is not compared \\(allowed: wide, deep\\)"):
        study({"primaries": ["plain"]}, arms=ARMS)
