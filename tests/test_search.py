"""The real Optuna gets the right results, and is restored from recorded rows."""

import pytest
from optuna.trial import TrialState

from resnetlab.search.optuna_sampler import OptunaSampler
from resnetlab.study import build_study
from resnetlab.study.records import Status

FACTORS = {
    "blocks": {"levels": [2, 3, 4]},
    "optimizer": {"levels": ["sgd", "adamw"]},
    "lr": [
        {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 0.5, "log": True},
        {"when": {"optimizer": "adamw"}, "low": 3e-4, "high": 3e-2, "log": True},
    ],
    "momentum": {"when": {"optimizer": "sgd"}, "levels": [0.5, 0.9]},
}


def study(sampler="tpe", factors=FACTORS, **search):
    content = {"name": "s", "dataset": {"name": "glyphs"}, "factors": factors}
    return build_study(content | {"search": {"sampler": sampler, "trials": 20, "epochs": 9, **search}}, "s.yaml")


def run(search, numbers):
    """Ask and tell with a made-up response; returns the rows that a table would hold."""
    rows = []
    for number in numbers:
        trial, values = search.ask(number)
        trial_id = f"t{number}"
        search.started(trial_id, trial)
        stopped = number % 3 == 1
        epochs = [(e, 0.5 + 0.1 * values["blocks"] / 3 + 0.01 * e) for e in range(1, 4 if stopped else 10)]
        for epoch, value in epochs:
            search.reported(trial_id, epoch, value)
        status = Status.STOPPED if stopped else Status.COMPLETE
        search.ended(trial_id, status, 100.0 * values["blocks"])
        blank = dict.fromkeys(search.study.space.names)
        row = {"trial_id": trial_id, "number": number, "status": status, "parameters": 100 * values["blocks"]}
        rows.append((blank | values | row, epochs))
    return rows


def test_the_first_proposal_is_the_baseline():
    s = study()
    assert OptunaSampler(s).ask(0)[1] == s.baseline_values()


@pytest.mark.parametrize("sampler", ["tpe", "random", "quasi-random"])
def test_proposals_lie_in_the_space_and_inactive_factors_are_absent(sampler):
    search = OptunaSampler(study(sampler))
    for row, _ in run(search, range(15)):
        values = {name: row[name] for name in search.study.space.names if row[name] is not None}
        assert search.study.space.problem(values) is None
        assert ("momentum" in values) == (values["optimizer"] == "sgd")


def test_stopped_trials_are_pruned_with_all_their_values():
    search = OptunaSampler(study())
    run(search, range(3))
    states = [trial.state for trial in search.optuna.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
    stopped = search.optuna.trials[1]
    assert list(stopped.intermediate_values) == [1, 2, 3]
    assert stopped.value == stopped.intermediate_values[3]


def test_diverged_trials_fail_rather_than_run_for_ever():
    search = OptunaSampler(study())
    trial, _ = search.ask(0)
    search.started("a", trial)
    search.ended("a", Status.DIVERGED, None)
    assert search.optuna.trials[0].state is TrialState.FAIL


@pytest.mark.parametrize("sampler", ["tpe", "random", "quasi-random", "grid"])
def test_a_study_rebuilt_from_rows_goes_on_as_if_never_interrupted(sampler):
    factors = {name: f for name, f in FACTORS.items() if name != "lr"} if sampler == "grid" else FACTORS
    straight = OptunaSampler(study(sampler, factors))
    rows = run(straight, range(8))
    rebuilt = OptunaSampler(study(sampler, factors))
    for row, epochs in rows:
        rebuilt.replay(row, epochs)
    assert [t.state for t in rebuilt.optuna.trials] == [t.state for t in straight.optuna.trials]
    assert [t.params for t in rebuilt.optuna.trials] == [t.params for t in straight.optuna.trials]
    assert [t.intermediate_values for t in rebuilt.optuna.trials] == [
        t.intermediate_values for t in straight.optuna.trials
    ]
    assert rebuilt.ask(8)[1] == straight.ask(8)[1]


def test_a_grid_is_complete_without_repeats_and_ends():
    factors = {"blocks": {"levels": [1, 2, 3]}, "downsample": {"levels": [0, 1, 2]}}
    search = OptunaSampler(study("grid", factors))
    points = []
    while (asked := search.ask(len(points))) is not None:
        points.append(tuple(asked[1].values()))
        search.started(str(len(points)), asked[0])
    assert sorted(points) == [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_infeasible_proposals_are_asked_again_and_named(sampler):
    factors = {"blocks": {"levels": [1, 2, 3]}, "downsample": {"levels": [0, 1, 2]}}
    search = OptunaSampler(study(sampler, factors))
    for _, values in (search.ask(number) for number in range(20)):
        assert values["downsample"] <= values["blocks"]
    assert any("downsample <= blocks" in problem for problem in search.infeasible)


def test_two_objectives_run_with_stopped_trials():
    search = OptunaSampler(study(second_objective="parameters"))
    run(search, range(12))
    assert len(search.optuna.best_trials) >= 1
    assert {t.state for t in search.optuna.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in search.optuna.trials:  # two objectives: Optuna has no intermediate values, so they are attributes
        assert len(trial.user_attrs["val_accuracy"]) == (3 if trial.state is TrialState.PRUNED else 9)
