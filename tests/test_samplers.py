"""Every sampler: no point twice, an exhausted space, points that are asked for first, results of other sweeps."""

from importlib.util import find_spec

import optuna
import pytest
from optuna.trial import TrialState

from resnetlab.calibration.simulator import Memory, Truth, drive
from resnetlab.driver.checks.accept import accept
from resnetlab.driver.options import Options
from resnetlab.errors import BadRequest
from resnetlab.experiment import own
from resnetlab.search.optuna_sampler import OptunaSampler
from resnetlab.study import build_study
from resnetlab.study.records import Status
from resnetlab.study.sections.search import SAMPLERS
from resnetlab.sweep import own_search
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import one_dataset

RANGES = {
    "lr": {"low": 0.01, "high": 1.0, "log": True},
    "weight_decay": {"low": 0.0, "high": 0.01},
    "batch_size": {"low": 8, "high": 64},
}
LEVELS = {"blocks": {"levels": [2, 3]}, "kernel": {"levels": [3, 5]}, "batch_size": {"low": 16, "high": 17}}
BASELINE = {"blocks": 2, "batch_size": 16, "lr": 0.1, "kernel": 3}
needs_cmaes = pytest.mark.skipif(find_spec("cmaes") is None, reason="cmaes is not installed: the extra cma")
ALL = [pytest.param(name, marks=needs_cmaes if name == "cma-es" else ()) for name in SAMPLERS if name != "grid"]


def study(sampler="tpe", factors=RANGES, **search):
    content = {"name": "s", "dataset": {"name": "glyphs"}, "factors": factors, "baseline": BASELINE}
    settings = {"sampler": sampler, "trials": 20, "epochs": 3, **search}
    return build_study(content | {"search": settings, "confirm": {"design": "none"}}, "s.yaml")


def merit(values):
    return 1 - (values.get("weight_decay", 0.0) * 100 - 0.3) ** 2 - abs(values["batch_size"] - 30) / 100


def run(search, numbers, side=1):
    """Ask and tell, `side` trials side by side; the rows that a table would hold, and the points."""
    rows, points, waiting = [], [], []

    def end(number, trial_id, values):
        stopped = number % 4 == 3
        epochs = [(e, merit(values) + 0.01 * e) for e in range(1, 2 if stopped else 4)]
        for epoch, value in epochs:
            search.reported(trial_id, epoch, value)
        status = Status.STOPPED if stopped else Status.COMPLETE
        search.ended(trial_id, status, None)
        blank = dict.fromkeys(search.study.space.names)
        rows.append((blank | values | {"trial_id": trial_id, "number": number, "status": status}, epochs))

    for number in numbers:
        if (asked := search.ask(number)) is None:
            break
        trial, values = asked
        search.started(f"t{number}", trial, (number, values))
        points.append(values)
        waiting.append((number, f"t{number}", values))
        if len(waiting) == side:
            end(*waiting.pop(0))
    for one in waiting:
        end(*one)
    return rows, points


@pytest.mark.parametrize("sampler", ALL)
def test_side_by_side_no_point_is_proposed_twice_and_all_lie_in_the_space(sampler):
    search = OptunaSampler(study(sampler))
    _, points = run(search, range(16), side=4)
    assert len(points) == 16 and len({tuple(sorted(point.items())) for point in points}) == 16
    assert all(search.study.space.problem(point) is None for point in points)
    assert points[0] == search.study.baseline_values()


@pytest.mark.parametrize("sampler", ["gp", "linear", pytest.param("cma-es", marks=needs_cmaes)])
def test_a_study_rebuilt_from_rows_proposes_what_an_uninterrupted_one_would(sampler):
    straight = OptunaSampler(study(sampler))
    rows, _ = run(straight, range(15))
    rebuilt = OptunaSampler(study(sampler))
    for row, epochs in rows:
        rebuilt.replay(row, epochs)
    assert [rebuilt.ask(n)[1] for n in (15, 15)] == [straight.ask(n)[1] for n in (15, 15)]


@needs_cmaes
def test_cma_es_comes_nearer_to_the_best_point():
    factors = {name: RANGES[name] for name in ("lr", "weight_decay")}
    search = OptunaSampler(study("cma-es", factors, trials=120))
    values = {"batch_size": 30}
    far = []
    for number in range(120):
        trial, found = search.ask(number)
        search.started(f"t{number}", trial, (number, found))
        search.reported(f"t{number}", 3, merit(found | values))
        search.ended(f"t{number}", Status.COMPLETE, None)
        far.append(abs(found["weight_decay"] - 0.003))
    assert sum(far[-20:]) < 0.2 * sum(far[:20])


def test_cma_es_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("resnetlab.search.cma_es.find_spec", lambda name: None)
    with pytest.raises(BadRequest, match=r"search.sampler: cma-es needs the package cmaes.*resnetlab\[cma\]"):
        accept(study("cma-es"), Options(), dry=True)
    OptunaSampler(study("cma-es"))  # a report or an export of its results needs no proposals


@pytest.mark.parametrize("sampler", ["tpe", "linear", "random", "quasi-random", "gp"])
def test_an_exhausted_space_ends_the_search_and_says_so(sampler):
    search = OptunaSampler(study(sampler, LEVELS))
    _, points = run(search, range(20), side=3)
    assert len(points) == 8 == len({tuple(sorted(point.items())) for point in points})
    assert search.why_ended == "every combination that can be run has been proposed"


def test_points_are_repeated_where_that_is_asked_for():
    _, points = run(OptunaSampler(study("random", LEVELS, repeat=True)), range(20))
    assert len(points) == 20


def test_a_sweep_over_an_exhausted_space_ends_early_and_says_so():
    one = study("tpe", LEVELS, audit=0.0, stopping=False)
    store = Memory()
    sweep = Sweep(one, store, {"git_revision": "", "versions": "{}"}, one_dataset(one, "d", ["a", "b"]))
    drive(sweep, Truth())
    assert len(store.trials) == 8 and sweep.finished and sweep.error is None
    said = "the search ends after 8 of 20 trials: every combination that can be run has been proposed"
    assert said in sweep.notes


def test_a_sampler_of_optunas_is_named_by_its_class(tmp_path):
    (tmp_path / "study.yaml").write_text(
        "dataset: {name: glyphs}\nfactors: {lr: {low: 0.01, high: 1.0}, kernel: {levels: [3, 5]}}\n"
        'search: {sampler: "optuna.samplers:NSGAIISampler", population_size: 4, trials: 12, epochs: 3}\n'
        "confirm: {seeds: 2}\n"
    )
    one = own.load(tmp_path / "study.yaml")
    assert one.search.own["sampler"]["population_size"] == 4
    assert own_search.sampler(one, tmp_path / "code") is None
    search = OptunaSampler(one, make=own_search.optunas(one, tmp_path / "code"))
    for number in range(12):
        trial, values = search.ask(number)
        search.started(f"t{number}", trial, (number, values))
        search.reported(f"t{number}", 3, values["lr"])
        search.ended(f"t{number}", Status.COMPLETE, None)
    assert isinstance(search.optuna.sampler, optuna.samplers.NSGAIISampler)
    assert search.optuna.sampler._population_size == 4


# -- points that are known -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ALL)
def test_enqueued_points_come_first_after_the_baseline_and_are_whole(sampler):
    enqueue = [{"lr": 0.5}, {"lr": 0.02, "batch_size": 32}, {"batch_size": 16}]  # the last is the baseline
    search = OptunaSampler(study(sampler, enqueue=enqueue))
    _, points = run(search, range(5))
    base = search.study.baseline_values()
    assert points[:3] == [base, base | {"lr": 0.5}, base | {"lr": 0.02, "batch_size": 32}]
    assert points[3] not in points[:3]


def test_new_keys_change_a_hash_only_where_they_are_used():
    plain = study()
    assert study(enqueue=[], repeat=False, **{"from": []}).study_hash == plain.study_hash
    for used in ({"enqueue": [{"lr": 0.5}]}, {"repeat": True}, {"from": ["results/a"]}):
        assert study(**used).study_hash != plain.study_hash
    assert not {"enqueue", "repeat", "from", "window", "brackets", "min_samples"} & plain.search.identity().keys()


CONDITIONAL = {
    "optimizer": {"levels": ["sgd", "adamw"]},
    "momentum": {"when": {"optimizer": "sgd"}, "low": 0.5, "high": 0.9},
}


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"enqueue": [{"lr": 2.0}]}, "search.enqueue: 1: lr=2.0 is not allowed (allowed: 0.01 … 1.0 (log))"),
        ({"enqueue": [{}, {"lrr": 0.1}]}, "search.enqueue: 2: 'lrr' is no factor of this study (did you mean 'lr'?)"),
        ({"enqueue": [{"lr": 0.5}, {"lr": 0.5}]}, "search.enqueue: 2 is the same as 1"),
        ({"enqueue": [{"lr": "fast"}]}, "search.enqueue: 1: "),
        (
            {"factors": CONDITIONAL, "enqueue": [{"optimizer": "adamw", "momentum": 0.6}]},
            "search.enqueue: 1: momentum is read by nothing there",
        ),
        ({"sampler": "grid", "factors": LEVELS, "enqueue": [{"blocks": 3}]}, "search: enqueue: a grid has every"),
        ({"sampler": "random", "from": ["results/a"]}, "from: sampler: random learns from no results"),
        ({"sampler": "linear", "factors": LEVELS, "second_objective": "parameters"}, "linear takes one objective"),
        ({"sampler": "gp", "factors": CONDITIONAL}, "gp takes no conditions, and factors.momentum has one"),
        ({"sampler": "cma-es", "factors": CONDITIONAL}, "cma-es takes "),
        ({"sampler": "cma-es", "factors": LEVELS}, "cma-es takes ranges alone, and factors.blocks has levels"),
        ({"sampler": "cma-es", "factors": {"lr": RANGES["lr"]}}, "cma-es takes two ranges or more"),
    ],
)
def test_what_cannot_be_asked_is_named(asked, words):
    with pytest.raises(BadRequest) as caught:
        study(**asked)
    assert words in str(caught.value)


# -- results of other sweeps -----------------------------------------------------------------------------------------


def test_a_warm_start_is_told_as_what_it_was_and_is_no_evidence():
    rows, _ = run(OptunaSampler(study()), range(12))
    search = OptunaSampler(study(), warm=rows)
    states = [trial.state for trial in search.optuna.trials]
    assert states.count(TrialState.PRUNED) == 3 and states.count(TrialState.COMPLETE) == 9
    assert search.ask(0)[1] == search.study.baseline_values(), "what ran elsewhere may run here"
    trial, _ = search.ask(0)
    assert trial.number >= 12
    one = study(audit=0.0)
    store = Memory()
    facts = {"git_revision": "", "versions": "{}"}
    sweep = Sweep(one, store, facts, one_dataset(one, "d", ["a", "b"]), warm=rows)
    drive(sweep, Truth())
    assert len(store.trials) == 20 and not {row["trial_id"] for row, _ in rows} & store.trials.keys()
    assert {row["trial_id"] for row in store.read("rungs").to_pylist()} <= store.trials.keys()


def test_a_study_that_names_no_sampler_has_the_one_that_fits():
    def sampler(**content):
        base = {"name": "s", "dataset": {"name": "glyphs"}, "baseline": BASELINE, "confirm": {"design": "none"}}
        return build_study(base | content, "s.yaml").search.sampler

    two = {"second_objective": "parameters", "trials": 4, "epochs": 1}
    assert sampler(factors=LEVELS) == "linear" and sampler(factors=LEVELS, search={"trials": 4}) == "linear"
    assert sampler(factors=LEVELS, search=two) == "tpe"
    assert sampler(factors=LEVELS, search={"sampler": "random"}) == "random"
    recorded = build_study(
        {"name": "s", "dataset": {"name": "glyphs"}, "factors": LEVELS, "baseline": BASELINE}, "s.yaml"
    )
    assert build_study(recorded.recorded(), "again").recorded() == recorded.recorded()


def test_a_task_names_the_epochs_at_which_its_rule_decides():
    place = study("random", LEVELS, trials=2, epochs=5, grace_period=1, reduction_factor=3, audit=0)
    record = {"git_revision": "", "versions": "{}"}
    sweep = Sweep(place, Memory(), record, one_dataset(place, "simulated", ["a", "b"]), "explore")
    assert sweep.next().decided == (1, 3)
