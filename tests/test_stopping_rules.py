"""Each stopping rule decides as its published algorithm, keeps every decision as a row, and can be rebuilt."""

import math

import pytest
from curves_here import play
from hypothesis import given, settings
from hypothesis import strategies as st

from resnetlab.calibration.simulator import Memory, Truth, drive
from resnetlab.errors import BadRequest
from resnetlab.search.schedulers.asha_promotion import Promotion
from resnetlab.search.schedulers.hyperband import Hyperband
from resnetlab.search.schedulers.rising import Rising
from resnetlab.study import build_study, catalog
from resnetlab.study.records import Status
from resnetlab.sweep import own_search
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import one_dataset

curves = st.lists(st.lists(st.integers(0, 20), min_size=30, max_size=30), min_size=1, max_size=12)
rngs = st.randoms(use_true_random=False)


# -- hyperband -------------------------------------------------------------------------------------------------------


def test_all_brackets_get_trials_in_proportion_to_their_sizes():
    rule = Hyperband(9, 1, 1, 3)
    assert rule.sizes == [9, 5, 3]
    found = [rule.bracket(f"t{i}") for i in range(17_000)]
    assert [round(found.count(s) / 1000) for s in range(3)] == [9, 5, 3]


# -- rising bandits --------------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(6, 20), curves, rngs, st.sampled_from([1, -1]))
def test_rising_bandits_stop_where_the_upper_bound_is_no_better_than_a_lower_one(
    grace, window, epochs, curves, rng, sign
):
    ours = Rising(epochs, sign, grace_period=grace, window=window)
    seen = {number: [] for number in range(len(curves))}

    def both(number, epoch, value):
        row = ours.report(str(number), epoch, value)
        mine = seen[number]
        mine.append(sign * value)
        others = [max(other) for name, other in seen.items() if name != number and other]
        if row is None:
            assert epoch < max(grace, window + 1)
            return True
        slope = max(0.0, (mine[-1] - mine[-1 - window]) / window)  # ω of the paper's equation 6
        upper, lower = mine[-1] + slope * (epochs - epoch), max(others, default=-math.inf)
        if abs(upper - lower) > 1e-12:
            assert (row.decision == "continue") == (upper > lower)
        return row.decision == "continue"

    play(both, curves, epochs, rng)


@settings(max_examples=150)
@given(
    st.lists(st.lists(st.integers(0, 50), min_size=12, max_size=12), min_size=2, max_size=10),
    st.integers(1, 3),
    rngs,
)
def test_on_concave_curves_rising_bandits_never_stop_the_trial_that_will_be_best(steps, window, rng):
    """However slowly it starts: that is what the rule is chosen for."""
    rising = [[sum(sorted(one, reverse=True)[: n + 1]) / 20 for n in range(12)] for one in steps]
    last = [curve[-1] for curve in rising]
    if last.count(max(last)) > 1:
        return
    rule = Rising(12, 1, window=window)

    def decide(number, epoch, value):
        row = rule.report(str(number), epoch, value * 20)
        return row is None or row.decision == "continue"

    ended = play(decide, rising, 12, rng)
    assert ended[last.index(max(last))] == 12


# -- promotion -------------------------------------------------------------------------------------------------------


class Published:
    """Algorithm 2 of Li et al. (2020): `get_job`, as it is printed, with trial ids to break ties."""

    def __init__(self, grace, factor, epochs):
        self.rungs = [{} for e in range(40) if grace * factor**e < epochs]
        self.promoted = [set() for _ in self.rungs]
        self.factor = factor

    def get_job(self):
        for k in reversed(range(len(self.rungs))):
            ranked = sorted(self.rungs[k], key=lambda name: (-self.rungs[k][name], name))
            candidates = ranked[: len(self.rungs[k]) // self.factor]
            promotable = [name for name in candidates if name not in self.promoted[k]]
            if promotable:
                self.promoted[k].add(promotable[0])
                return promotable[0], k
        return None


@settings(max_examples=150)
@given(st.integers(1, 2), st.integers(2, 4), st.integers(5, 30), curves, rngs, st.integers(0, 40))
def test_promotion_follows_the_published_algorithm_also_when_rebuilt_from_rows(grace, factor, epochs, curves, rng, cut):
    ours, theirs = Promotion(grace, factor, epochs), Published(grace, factor, epochs)
    running, fresh, rows, values, step = {}, list(range(len(curves))), [], {}, 0
    while True:
        if step == cut:
            ours = Promotion(grace, factor, epochs)
            ours.replay(rows, values)
        step += 1
        while len(running) < 3:
            found, job = ours.promote(), theirs.get_job()
            assert (found and (found[0], found[1].rung)) == job
            if found is not None:
                rows.append({"trial_id": found[0], **found[1].as_row()})
                running[found[0]] = ours.epochs[found[1].rung]
            elif fresh:
                running[f"{fresh.pop(0):02d}"] = 0
            else:
                break
        if not running:
            break
        name = rng.choice(sorted(running))
        running[name] += 1
        epoch, value = running[name], curves[int(name)][running[name] - 1] / 20
        if epoch == epochs:
            del running[name]
            continue
        values.setdefault(name, []).append((epoch, value))
        said = ours.report(name, epoch, value)
        assert (said is not None) == (epoch in ours.epochs)
        if said is not None:
            assert said.decision == "pause"
            theirs.rungs[said.rung][name] = value
            del running[name]
    ends = ours.left(exempt=())
    assert {decision.decision for _, decision in ends} <= {"stop"}
    for rung, here in enumerate(theirs.rungs):
        left = {name for name, decision in ends if decision.rung == rung}
        assert left == set(here) - theirs.promoted[rung]


# -- all of them, in a sweep -----------------------------------------------------------------------------------------

RULES = sorted(catalog.parts(catalog.STOPPING))
TRUTH = Truth(main={"blocks": {3: 3.0, 4: 5.0}}, lag={"kernel": {5: 20.0}}, tuned=[({}, "lr", 0.1, 3.0)], collapse=0.05)


def sweep(rule, store, **search):
    content = {
        "name": "s",
        "dataset": {"name": "glyphs"},
        "baseline": {"blocks": 2},
        "factors": {
            "blocks": {"levels": [2, 3, 4]},
            "kernel": {"levels": [3, 5]},
            "lr": {"low": 0.01, "high": 1.0, "log": True},
        },
        "search": {"trials": 24, "epochs": 9, "audit": 0.25, "stopping": rule, **search},
        "confirm": {"seeds": 2},
    }
    study = build_study(content, "s.yaml")
    return Sweep(study, store, {"git_revision": "", "versions": "{}"}, one_dataset(study, "d", ["a", "b"]))


def told(store, sweep_):
    kept = ("trial_id", "number", "phase", "status", "reason", "epochs_run", "val_accuracy")
    rows = [{name: row[name] for name in kept} for row in store.trials.values()]
    return sorted(rows, key=lambda row: row["trial_id"]), store.read("rungs").sort_by("trial_id").to_pylist()


@pytest.mark.parametrize("rule", RULES)
def test_every_decision_is_a_row_and_the_audit_is_exempt(rule):
    store = Memory()
    one = sweep(rule, store)
    drive(one, TRUTH)
    rows = store.read("rungs").to_pylist()
    explored = [row for row in store.trials.values() if row["phase"] in ("explore", "audit")]
    stopped = {row["trial_id"] for row in explored if row["status"] == Status.STOPPED}
    assert stopped == {row["trial_id"] for row in rows if row["decision"] == "stop"}
    assert bool(stopped) == (rule != "none")
    audit = {row["trial_id"] for row in explored if row["phase"] == "audit"}
    assert audit and not audit & stopped
    assert {row["trial_id"] for row in rows if row["decision"] == "exempt"} <= audit
    last = {trial_id: max(row["epoch"] for row in rows if row["trial_id"] == trial_id) for trial_id in stopped}
    assert all(store.trials[trial_id]["epochs_run"] == epoch for trial_id, epoch in last.items())
    assert {row["epoch"] for row in rows} <= set(one.study.search.rungs)
    assert all(row["status"] in (Status.COMPLETE, Status.STOPPED, Status.DIVERGED) for row in explored)
    assert one.plan is not None, "some trial reached the full budget"


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cut", [3, 20, 61])
def test_a_killed_sweep_decides_as_an_uninterrupted_one(rule, cut):
    """With one slot: what is proposed then depends on nothing but what has ended."""
    whole, broken = Memory(), Memory()
    drive(sweep(rule, whole), TRUTH, slots=1)
    drive(sweep(rule, broken), TRUTH, slots=1, epochs=cut)
    drive(sweep(rule, broken), TRUTH, slots=1)
    assert told(whole, None) == told(broken, None)


def test_with_promotion_some_trial_always_reaches_the_full_budget():
    store = Memory()
    drive(sweep("asha-promotion", store, trials=2, audit=0.0), Truth())
    explored = [row["status"] for row in store.trials.values() if row["phase"] == "explore"]
    assert sorted(explored) == ["complete", "stopped"]


def test_no_rule_is_what_false_always_was_and_keeps_its_hash():
    by_name, false = sweep("none", Memory()).study, sweep(False, Memory()).study
    assert by_name.study_hash == false.study_hash and by_name.search.rungs == []
    assert sweep("asha", Memory()).study.study_hash == sweep(True, Memory()).study.study_hash
    assert own_search.rule(by_name, None).report("a", 1, 0.5) is None


@pytest.mark.parametrize(
    "search, words",
    [
        ({"stopping": "hyperband", "grace_period": 4}, "need grace_period × reduction_factor <= epochs"),
        ({"stopping": "hyperband", "brackets": 4}, "need at most 3 brackets, which fit, got brackets=4"),
        ({"stopping": "hyperband", "brackets": 1}, "need brackets of at least 2"),
        ({"stopping": "median", "brackets": 2}, "brackets is no setting of stopping: median"),
        ({"stopping": "median", "grace_period": 10}, "need grace_period <= epochs"),
        ({"stopping": "rising", "window": 8}, "need window + 1 < epochs, got window=8, epochs=9"),
        ({"stopping": "asha-promotion", "grace_period": 12}, "need grace_period <= epochs"),
        ({"stopping": "hyperbend"}, "search.stopping: 'hyperbend' is not known (did you mean 'hyperband'?)"),
    ],
)
def test_bad_settings_are_named(search, words):
    with pytest.raises(BadRequest) as caught:
        sweep(search.pop("stopping"), Memory(), **search)
    assert words in str(caught.value)
