"""The median rule and Hyperband decide as Ray's and Optuna's implementations of them do."""

import math
from types import SimpleNamespace

import optuna
from curves_here import play
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule

from resnetlab.search.schedulers.hyperband import Hyperband, most_brackets
from resnetlab.search.schedulers.median import Median

GRID = 64  # values are multiples of 1/64: sums of them are exact, in whatever order
curves = st.lists(st.lists(st.integers(0, 20), min_size=30, max_size=30), min_size=1, max_size=12)
rngs = st.randoms(use_true_random=False)


def trials(count):
    return [SimpleNamespace(trial_id=f"study_{i}", number=i) for i in range(count)]


# -- median ----------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(5, 20), curves, rngs, st.sampled_from([1, -1]))
def test_the_median_rule_decides_as_rays(grace, least, epochs, curves, rng, sign):
    ray = MedianStoppingRule(
        time_attr="epoch", metric="value", mode="max" if sign > 0 else "min", grace_period=grace,
        min_samples_required=least,
    )  # fmt: skip
    quiet, ours, theirs = SimpleNamespace(get_live_trials=lambda: []), Median(
        epochs, sign, grace_period=grace, min_samples=least
    ), [type("Trial", (), {"trial_id": str(i)})() for i in range(len(curves))]  # fmt: skip

    def both(number, epoch, value):
        value = round(value * 20) / GRID
        said = ray.on_trial_result(quiet, theirs[number], {"epoch": epoch, "value": value}) != "STOP"
        row = ours.report(str(number), epoch, value)
        assert (row is None or row.decision == "continue") == said
        return said

    play(both, curves, epochs, rng)


# -- hyperband -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(2, 4), st.integers(9, 30), curves, rngs)
def test_hyperband_has_optunas_brackets_and_decides_in_each_as_rays_asha(grace, factor, epochs, curves, rng):
    count = most_brackets(grace, factor, epochs)
    ours = Hyperband(epochs, 1, grace, factor)
    pruner = optuna.pruners.HyperbandPruner(min_resource=grace, max_resource=epochs, reduction_factor=factor)
    study = optuna.create_study(study_name="study", pruner=pruner)
    pruner._try_initialization(study)
    if math.floor(math.log(epochs / grace, factor)) + 1 == count:  # Optuna's logarithm of 243 to the base 3 is below 5
        assert ours.sizes == pruner._trial_allocation_budgets
        for trial in trials(200):
            assert ours.bracket(trial.trial_id) == pruner._get_bracket_id(study, trial)
    ray = [
        ASHAScheduler(
            time_attr="epoch", metric="value", mode="max", max_t=epochs, grace_period=grace * factor**s,
            reduction_factor=factor,
        )
        for s in range(count)
    ]  # fmt: skip
    run = trials(len(curves))
    for trial in run:
        ray[ours.bracket(trial.trial_id)].on_trial_add(None, trial)

    def both(number, epoch, value):
        trial = run[number]
        scheduler = ray[ours.bracket(trial.trial_id)]
        said = scheduler.on_trial_result(None, trial, {"epoch": epoch, "value": value}) != "STOP"
        row = ours.report(trial.trial_id, epoch, value)
        assert (row is None or row.decision == "continue") == said
        assert row is None or row.epoch == grace * factor**row.rung
        return said

    play(both, curves, epochs, rng)
