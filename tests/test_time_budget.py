"""A budget in time: what fits is planned and begun, and the sweep ends in time with whole blocks of seeds."""

import json
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.analysis.confirm.power import enough_seeds
from resnetlab.analysis.results import Results
from resnetlab.analysis.time_spent import in_words
from resnetlab.calibration.simulator import Memory, SimulatedClock, Truth, drive
from resnetlab.calibration.timed_sweeps import World, one_sweep, pace, timed_study
from resnetlab.driver.checks.extend import check_identity
from resnetlab.driver.finished import finished
from resnetlab.driver.in_time import in_time
from resnetlab.errors import BadRequest
from resnetlab.planning.affordable import DoesNotFit, fitted, makespan, most_blocks
from resnetlab.planning.making import make_plan, sketch
from resnetlab.planning.plan import asked
from resnetlab.report.findings import Findings
from resnetlab.report.sections import plan as plan_section
from resnetlab.report.terminal import told
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store
from resnetlab.study import build_study
from resnetlab.study.records import Phase, Status
from resnetlab.sweep.epoch_times import EpochTimes
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import data_key, one_dataset
from resnetlab.sweep.time_budget import OutOfTime, TimeBudget
from resnetlab.vision.data import prepare
from resnetlab.wording import seconds_of

ROOT = Path(__file__).resolve().parents[1]
FACTS = {"git_revision": "g", "versions": "{}"}
SLOW = World("10m", 10.0, 2)


def make(study, store, time, stage="all"):
    return Sweep(study, store, FACTS, one_dataset(study, "simulated", [str(n) for n in range(10)]), stage, time=time)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("40m", 2400), ("1h30m", 5400), ("1h 5s", 3605), ("0.5h", 1800), ("2h3m4s", 7384)],
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0m", "40", "m", "-3m", "1m2h", "3 days", "1e3s"])
def test_other_texts_are_no_durations(text):
    with pytest.raises(ValueError, match=r"is no duration .allowed: .* 1h30m"):
        seconds_of(text)


def test_the_budget_is_no_part_of_what_a_study_is(tmp_path):
    ten, hour = (timed_study(World(budget, 1.0, 2), 0) for budget in ("10m", "1h"))
    assert ten.study_hash == hour.study_hash and ten.recorded()["time_budget"] == "10m"
    folder = ResultsFolder.at(tmp_path)
    folder.write_json("study.json", ten.recorded())
    check_identity(hour, folder)
    with pytest.raises(BadRequest, match="time_budget: 'soon' is no duration"):
        build_study(ten.recorded() | {"time_budget": "soon"}, "s.yaml")


@given(st.lists(st.floats(0.1, 9), max_size=12), st.integers(1, 4), st.lists(st.floats(0, 5), max_size=4))
def test_runs_are_taken_by_the_first_free_slot(runs, slots, busy):
    free = [*busy, *[0.0] * (slots - len(busy))]
    for seconds in runs:
        at = free.index(min(free))
        free[at] += seconds
    assert makespan(runs, slots, busy) == pytest.approx(max(free))


@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=5), st.integers(1, 4), st.floats(0, 60))
def test_as_many_blocks_are_planned_as_end_in_time(block, slots, left):
    many = most_blocks(block, slots, left, 20)
    assert makespan(block * many, slots) <= left + 1e-6 or not many
    assert many == 20 or makespan(block * (many + 1), slots) >= left - 1e-6


def rows_of(study, world, trials, seed=0):
    """Rows of explore trials at random settings, timed in the world."""
    rng, seconds, rows = np.random.default_rng(seed), pace(world, seed), []
    for number in range(trials):
        values = {"blocks": rng.choice([2, 3]).item(), "kernel": rng.choice([3, 5]).item(),
                  "shortcut": bool(rng.integers(2)), "lr": float(10 ** rng.uniform(-1.5, 0))}  # fmt: skip
        task = type("Task", (), {"config": study.config(values, seed=number), "trial_id": str(number)})
        spent = sum(seconds(task, epoch) for epoch in range(3))
        rows.append(values | {"epochs_run": 3, "train_seconds": spent, "phase": "explore", "status": "complete",
                              "trial_id": str(number), "number": number, "val_accuracy": rng.random()})  # fmt: skip
    return rows


def test_what_an_epoch_takes_is_learnt_from_each_level():
    world = World("10m", 2.0, 2, jitter=0.05, speeds=0.05)
    study = timed_study(world, 0)
    times = EpochTimes(study, rows_of(study, world, 12))
    for values, expected in (({}, 2.0), ({"blocks": 3}, 3.2), ({"kernel": 5}, 2.8), ({"blocks": 3, "kernel": 5}, 4.48)):
        config = study.config(study.baseline_values() | values, seed=0)
        assert times.epoch(config) == pytest.approx(expected, rel=0.12)
        assert times.run(config, done=3) == pytest.approx(2 * expected, rel=0.12)
    assert not EpochTimes(study, []).known


def fit(study, rows, left, slots=2, **more):
    times = EpochTimes(study, rows)
    return fitted(study, lambda one: make_plan(one, rows, "d", "c"), times.arms, slots, left, 600.0, len(rows), **more)


def test_seeds_and_then_designs_are_given_up_for_time_and_nothing_silently():
    study = timed_study(World("10m", 1.0, 2), 0)
    rows = rows_of(study, World("10m", 1.0, 2), 12)
    with pytest.raises(DoesNotFit) as error:
        fit(study, rows, 30.0)
    assert all(not one.fits for one in error.value.found.weighed)
    crossed, single = (one.least_seconds for one in error.value.found.weighed)
    plans = [fit(study, rows, left) for left in (1000.0, 300.0, crossed + 0.1, (crossed + single) / 2)]
    assert [plan.design for plan in plans] == ["factorial", "factorial", "factorial", "one-factor"]
    assert plans[0].seeds > plans[1].seeds > plans[2].seeds == 2 and plans[3].seeds == 3
    for plan in plans:
        assert plan.time.chosen.design == plan.design and plan.time.chosen.fits == plan.seeds
        assert plan.asked == asked(study) and plan.time.asked == 3
    assert [one.design for one in plans[3].time.weighed] == ["factorial", "one-factor"]
    with pytest.raises(DoesNotFit) as error:
        fit(study, rows, 40.0)
    assert all(not one.fits for one in error.value.found.weighed)


def test_outcomes_choose_neither_design_nor_seeds():
    for around in ("incumbent", "baseline"):
        study = timed_study(World("10m", 1.0, 2), 0, around=around)
        rows = [row | {"lr": 0.1} for row in rows_of(study, World("10m", 1.0, 2), 12)]
        others = [row | {"val_accuracy": 1 - row["val_accuracy"]} for row in rows]
        for left in (400.0, 150.0):  # the arms of a factorial design are the same around every setting
            one, other = fit(study, rows, left), fit(study, others, left)
            assert (one.design, one.seeds) == (other.design, other.seeds)
            assert (one.incumbent == other.incumbent) == (around == "baseline")  # which outcomes do choose


def test_a_pilot_says_how_many_seeds_are_enough():
    study = timed_study(World("10m", 1.0, 2), 0, pilot=3)
    rows = rows_of(study, World("10m", 1.0, 2), 12)
    runs = [rows[0] | {"phase": Phase.PILOT, "test_accuracy": value} for value in (0.800, 0.802, 0.801)]
    quiet = fit(study, [*rows, *runs], 3000.0, enough=enough_seeds)
    assert quiet.time.enough == enough_seeds(quiet) and quiet.seeds == max(3, quiet.time.enough) < 30
    assert fit(study, rows, 3000.0, enough=enough_seeds).seeds > 60  # no pilot, no end
    loud = [*rows, *(run | {"test_accuracy": 0.5 + 5 * (run["test_accuracy"] - 0.8)} for run in runs)]
    assert fit(study, loud, 3000.0, enough=enough_seeds).seeds > quiet.seeds


def test_a_plan_fitted_to_time_draws_its_seeds_from_what_it_runs():
    study = timed_study(World("10m", 1.0, 2), 0)
    rows = rows_of(study, World("10m", 1.0, 2), 12)
    one, other = fit(study, rows, 300.0), fit(study, rows, 300.5)
    assert one.seeds == other.seeds and one.plan_hash != other.plan_hash and one.seeds_from == other.seeds_from
    assert sketch(study).time is None and "time" not in sketch(study).content()


def test_a_fraction_comes_before_one_factor_at_a_time():
    content = timed_study(World("10m", 1.0, 2), 0).recorded()
    factors = content["factors"] | {"se": {"levels": [False, True]}, "pool": {"levels": ["average", "flatten"]}}
    study = build_study(content | {"factors": factors}, "s")
    arms = {}
    for left in (100.0, 40.0, 25.0):
        plan = fitted(study, sketch, lambda configs, arms: ([4.0] * len(configs), 1.0), 4, left, 600.0, 0)
        arms[plan.design] = len(plan.arms)
    assert arms == {"factorial": 32, "fractional": 16, "one-factor": 6}


@pytest.mark.parametrize("seed", range(20))
def test_twenty_sweeps_end_in_time_with_whole_blocks(seed):
    """Machines of several speeds and slots of differing ones; some drivers are killed on the way."""
    rng = np.random.default_rng(seed)
    budget, epoch, slots = (("3m", 1.0, 2), ("10m", 3.0, 2), ("40m", 8.0, 4), ("10m", 10.0, 2))[seed % 4]
    kill = None if seed % 3 else float(rng.uniform(30, 150))
    world = World(
        budget, epoch, slots, rng.uniform(0.05, 0.4), rng.uniform(0, 0.3), report=rng.uniform(2, 10), kill=kill
    )
    found = one_sweep(make, world, seed)
    assert found["share"] <= 1.05
    assert found["ragged"] <= 1 and found["whole"] <= found["planned"]
    sweep, clock = found["sweep"], found["sweep"].time
    if sweep.plan is None:
        assert clock.unplanned is not None and epoch == 10.0  # said, and only where it is so
    else:
        assert found["whole"] + found["ragged"] + clock.not_begun == found["planned"]
        assert found["whole"] >= found["planned"] / 2 or epoch == 10.0
        assert sweep.plan.time.budget == clock.seconds


def test_time_is_used():
    """Where there is much of it, most goes into confirm runs."""
    shares = [one_sweep(make, World("40m", 2.0, 4), seed)["share"] for seed in range(3)]
    assert min(shares) > 0.75


def test_without_time_for_any_claim_the_search_has_it_all_and_that_is_said(tmp_path):
    world = World("10m", 30.0, 2)
    study = timed_study(world, 0)
    store = Store(ResultsFolder.at(tmp_path), study.columns)
    clock = SimulatedClock()
    time = TimeBudget(study, 0.0, 0.0, clock)
    time.slots = 2
    sweep = make(study, store, time)
    drive(sweep, Truth(), 2, pace=pace(world, 0), clock=clock)
    assert sweep.plan is None and time.used > 400
    write(store, study, time)
    (said, why) = in_words(Results.open(tmp_path))
    assert said.startswith("Time budget 10 min 00 s: the sweep ran for")
    assert why.startswith("Nothing is confirmed for lack of time: one-factor, the smallest design, takes")
    assert "A budget of" in why and why in " ".join(plan_section.section(Findings(Results.open(tmp_path))).text)


def write(store, study, time):
    store.close()
    store.folder.write_json("study.json", study.recorded())
    store.folder.write_json(
        "sweep.json", {"time_budget": time.record(), "used_seconds": time.used, "command": "c --time-budget 10m"}
    )


def test_the_report_says_what_time_allowed_and_what_more_would_give(tmp_path):
    world = World("10m", 1.0, 2)
    study = timed_study(world, 3)
    store = Store(ResultsFolder.at(tmp_path), study.columns)
    clock = SimulatedClock()
    time = TimeBudget(study, 0.0, 0.0, clock)
    time.slots = 2
    sweep = make(study, store, time)
    drive(sweep, Truth(), 2, pace=pace(world, 3), clock=clock)
    write(store, study, time)
    results = Results.open(tmp_path)
    text = " ".join(in_words(results))
    plan = results.planned
    assert f"The plan was fitted to the {int(plan.time.left // 60)} min" in text
    assert f"factorial, 8 arms × {plan.seeds} seeds; without a budget the study asks for 3 seeds." in text
    assert "with 20 min 00 s about" in text and f"could be found with {plan.seeds} seeds" in text
    said = told(Findings(results), str(tmp_path))
    assert said.time == in_words(results) == said.as_json()["time_budget"]
    assert said.state == ("unfinished" if time.not_begun else "finished")
    assert said.standing.planned == len(results.explore) + 8 * plan.seeds


@pytest.mark.parametrize("seed", range(4))
def test_a_plan_stands_when_the_budget_changes_and_more_time_begins_its_other_blocks(seed, tmp_path):
    """The shorter time ends at the end of a block with some seeds, and within one that was tried with others."""
    world = World("10m", 2.0, 2)
    study = timed_study(world, 1).model_copy(update={"seed": seed})
    store = Store(ResultsFolder.at(tmp_path), study.columns)
    clock = SimulatedClock(until=300.0)
    time = TimeBudget(study, 0.0, 0.0, clock)
    time.slots = 2
    first = make(study, store, time)
    drive(first, Truth(), 2, pace=pace(world, 1), clock=clock)
    store.flush()
    assert first.plan is not None and not first.finished
    for budget, whole in (("6m", False), ("1h", True)):  # less time than was planned by, and more
        changed = study.model_copy(update={"time_budget": budget})
        clock.until = np.inf
        time = TimeBudget(changed, 300.0, clock.now, clock)
        time.slots = 2
        again = make(changed, store, time)
        drive(again, Truth(), 2, pace=pace(world, 1), clock=clock)
        store.flush()
        assert again.plan == first.plan
        confirm = [row for row in store.trials.values() if row["phase"] == Phase.CONFIRM]
        ended = sum(row["status"] == Status.COMPLETE for row in confirm)
        assert (ended == 8 * first.plan.seeds) == whole and (time.not_begun == 0) == whole
        assert len({row["seed_block"] for row in confirm}) + time.not_begun == first.plan.seeds
    write(store, changed, time)
    assert told(Findings(Results.open(tmp_path)), str(tmp_path)).state == "finished"
    assert finished(changed, str(tmp_path)) is None  # for want of a report alone


def test_a_paused_sweep_uses_no_time():
    clock = SimulatedClock(now=50.0)
    time = TimeBudget(timed_study(World("10m", 1.0, 2), 0), 100.0, 0.0, clock)
    time.passes(4, paused=0.0)
    assert (time.used, time.slots) == (150.0, 4)
    clock.now = 900.0
    time.passes(0, paused=840.0)  # while it is paused, no trial may run
    assert (time.used, time.slots) == (160.0, 4)
    with pytest.raises(OutOfTime):
        time.passes(4, paused=400.0)


def test_a_budget_shorter_than_one_trial_is_named():
    study = timed_study(World("1m", 30.0, 2), 0)
    with pytest.raises(
        BadRequest, match=r"time_budget: 1m is shorter than one trial: its 5 epochs take about .* at least"
    ):
        one_sweep(make, World("1m", 30.0, 2), 0)
    time = TimeBudget(study, 0.0, -55.0, SimulatedClock())
    with pytest.raises(BadRequest, match="time_budget: 1m is shorter than one trial: the start and the report alone"):
        time.check_enough({})
    with pytest.raises(BadRequest, match="shorter than one trial: none reached its full budget"):
        time.check_enough({"a": {"epochs_run": 1, "status": Status.INTERRUPTED}})
    time.check_enough({"a": {"epochs_run": 5, "status": Status.COMPLETE}})  # then it ends with what there is
    assert not make(study, Memory(), time).needs_workers


def test_named_arms_are_planned_as_asked_and_begun_as_time_allows():
    content = timed_study(World("5m", 1.0, 2), 0).recorded()
    arms = {"factors": {}, "arms": {"small": {}, "large": {"kernel": 5}}, "confirm": {"design": "arms", "seeds": 50}}
    study = build_study(content | arms | {"baseline": {"lr": 0.2}}, "s")
    store, clock = Memory(), SimulatedClock()
    time = TimeBudget(study, 0.0, 0.0, clock)
    time.slots = 2
    sweep = make(study, store, time)
    drive(sweep, Truth(), 2, pace=pace(World("5m", 1.0, 2), 0), clock=clock)
    assert sweep.plan.seeds == 50 and sweep.plan.time is None and 10 < 50 - time.not_begun < 45
    runs = [row for row in store.trials.values()]
    assert {row["status"] for row in runs} == {"complete"} and len(runs) == 2 * (50 - time.not_begun)
    assert clock.now < 300 and json.loads(json.dumps(time.record()))["blocks_not_begun"] == time.not_begun


def test_a_dry_run_says_what_some_amounts_of_time_could_find():
    results = Results.open(ROOT / "results/reference/default")
    head, *lines = in_time(results.study.model_copy(update={"time_budget": "30m"}), results, {})
    assert "(as recorded), 2 trials at once, seed sd" in head and "(measured)" in head
    assert [line.split(" min")[0].strip() for line in lines] == ["10", "30", "1 h 00", "8 h 00"]
    seeds, least = ([float(line.split()[place]) for line in lines] for place in (-4, -2))
    assert seeds == sorted(seeds) and least == sorted(least, reverse=True) and least[-1] < 0.2 < least[0]
    slow = results.study.model_copy(update={"search": results.study.search.model_copy(update={"epochs": 2000})})
    assert "nothing: one-factor, the smallest design, takes" in next(iter(list(in_time(slow, results, {}))[1:]))
    assert not list(in_time(build_study(results.study.recorded() | {"confirm": {"design": "none"}}, "s"), None, {}))


def test_a_dry_run_without_recorded_epochs_times_a_few_steps(tmp_path):
    content = {"name": "s", "dataset": {"name": "digits"}, "factors": {"kernel": {"levels": [1, 3]}}}
    study = build_study(content | {"search": {"epochs": 2, "trials": 3}, "time_budget": "1h"}, "s")
    dataset = prepare(study.dataset, tmp_path)
    datasets = {data_key(study.baseline_config(seed=0)): dataset}
    head, *lines = in_time(study, None, datasets)
    assert "as a few steps took here" in head and "(assumed)" in head and len(lines) == 3
    assert all("one-factor, 2 arms" in line for line in lines)
    (line,) = in_time(study.model_copy(update={"time_budget": ""}), None, datasets)  # which imports no torch
    assert line.startswith("time: --dry-run --time-budget 1h times a few steps")
    on_gpu = study.model_copy(update={"resources": study.resources.model_copy(update={"gpus": 1.0})})
    (line,) = in_time(on_gpu, None, datasets)
    assert line.startswith("time: what an epoch takes is not known before some were run") and "confirm.pilot=3" in line


REAL = """
dataset: {name: glyphs, variants: 2, limit: 600}
baseline: {blocks: 1, width: 4, downsample: 1, batch_size: 32, lr: 0.1}
factors: {kernel: {levels: [1, 3]}, shortcut: {levels: [true, false]}}
search: {trials: 3, epochs: 2}
confirm: {design: factorial, seeds: 2, pilot: 2, delta: 60}
"""


@pytest.mark.slow
def test_a_real_sweep_ends_in_time_and_says_by_what_it_was_planned(tmp_path):
    (tmp_path / "mine.yaml").write_text(REAL)
    words = ["--study", "mine.yaml", "--storage", "r", "--time-budget", "4m"]
    began = monotonic()
    done = subprocess.run(
        [sys.executable, str(ROOT / "sweeps/ablation.py"), *words], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"RESNETLAB_CACHE": str(tmp_path / "cache"), "RAY_TMPDIR": "/tmp"},
    )  # fmt: skip
    took = monotonic() - began
    assert done.returncode == 0, done.stderr
    assert took <= 1.05 * 240
    results = Results.open(tmp_path / "r/mine")
    assert "Time budget 4 min 00 s: the sweep ran for" in done.stdout and "budget: " in done.stdout
    assert 0.2 * took < results.sweep["used_seconds"] < took
    found = results.planned.time  # the pilot's spread against a delta of 60 points: no more seeds than were asked for
    assert found.enough is not None and found.enough <= 2 == found.asked and results.planned.seeds == 2
    assert "More than 2 seeds are of no use at the spread of the pilot" in (tmp_path / "r/mine/report.html").read_text()
