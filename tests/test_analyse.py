"""Runs made elsewhere: the same effects as the confirm stage's, or a refusal with the reason and a remedy."""

import csv
import itertools
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from made_results import default_study, make_results
from scipy import stats

from resnetlab.analysis.confirm.interaction_means import cells
from resnetlab.analysis.foreign.comparison import Comparison
from resnetlab.analysis.foreign.refusals import Request
from resnetlab.analysis.foreign.tables import read_runs
from resnetlab.analysis.results import Results
from resnetlab.cli.analyse import main as analyse
from resnetlab.report.findings import Findings
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table

ROOT = Path(__file__).resolve().parents[1]
SAME = ["estimate", "low", "high", "standard_error", "df", "p", "p_adjusted", "n", "n_reference"]
KERNELS, DEPTHS, SEEDS = (3, 5), (1, 2, 3), (0, 1, 2)


def some_runs() -> list[dict]:
    """A complete crossing: kernel 5 adds 0.02, each depth 0.03, seeds spread by 0.002."""
    draw = np.random.default_rng(1)
    return [
        {"kernel": k, "depth": d, "seed": s, "epochs": 9, "test_acc": 0.8 + 0.02 * (k == 5) + 0.03 * (d - 1) + noise}
        for (k, d, s), noise in zip(itertools.product(KERNELS, DEPTHS, SEEDS), draw.normal(0, 0.002, 18), strict=True)
    ]


def write(place: Path, rows: list[dict], name: str = "runs.csv") -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with (place / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return str(place / name)


def asked(place: str, capsys, **options) -> dict:
    """What the command prints as JSON."""
    given = {"factors": "kernel,depth", "metric": "test_acc", "seed": "seed"} | options
    analyse(place, json=True, **given)
    return json.loads(capsys.readouterr().out)


def refused(place: str, capsys, code: int, **options) -> str:
    """The one line that a refusal prints."""
    with pytest.raises(SystemExit) as left:
        asked(place, capsys, **options)
    said = capsys.readouterr()
    assert left.value.code == code, said.err
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err


# -- the same numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("design", ["factorial", "one-factor"])
def test_the_confirm_runs_of_a_study_give_the_effects_of_its_report(tmp_path, design):
    confirm = {"seeds": 3, "design": design, "factors": ["blocks", "kernel", "shortcut"], "around": "baseline"}
    study = default_study(confirm=confirm | {"images": "these"})  # runs made elsewhere have no predictions
    plan = make_results(tmp_path / "made", study, faults=False)
    results = Results.open(tmp_path / "made")
    ours = Findings(results).effects.set_index("name")
    ours = ours[ours["estimand"] != "not in the plan"]
    columns = [*plan.compared, "seed_block", "epochs_run", "test_accuracy"]
    results.confirm[columns].to_csv(tmp_path / "runs.csv", index=False)
    request = Request(
        tuple(plan.compared), "test_accuracy", "seed_block", {name: str(plan.incumbent[name]) for name in columns[:3]},
        budget="epochs_run", delta=plan.delta / 100, alpha=plan.alpha,
    )  # fmt: skip
    theirs = Comparison.of(read_runs(str(tmp_path / "runs.csv")), request).effects.set_index("name")
    assert len(theirs) >= 4 and set(theirs.index) == set(ours.index)
    theirs = theirs.loc[ours.index]
    pd.testing.assert_frame_equal(theirs[SAME], ours[SAME], rtol=1e-9)
    assert list(theirs["verdict"]) == list(ours["verdict"]) and "effect" in set(theirs["verdict"])
    assert list(theirs["method"]) == list(ours["method"])


def test_one_factor_alone_is_welchs_test(tmp_path, capsys):
    rows = [row for row in some_runs() if row["depth"] == 1]
    sides = [[row["test_acc"] for row in rows if row["kernel"] == kernel] for kernel in (5, 3)]
    (found,) = asked(write(tmp_path, rows), capsys, factors="kernel")["effects"]
    test = stats.ttest_ind(*sides, equal_var=False)
    assert found["p"] == pytest.approx(test.pvalue) and found["name"] == "kernel: 5 - 3"
    assert [found["low"], found["high"]] == pytest.approx([*test.confidence_interval(0.95)])
    assert found["estimand"] == "change at the reference levels"


def test_the_scale_of_the_metric_changes_nothing_but_the_numbers(tmp_path, capsys):
    rows = some_runs()
    one = asked(write(tmp_path, rows), capsys, delta=0.001)
    large = [row | {"test_acc": 1e6 * row["test_acc"]} for row in rows]
    other = asked(write(tmp_path, large), capsys, delta=1000.0)
    for a, b in zip(one["effects"], other["effects"], strict=True):
        assert a["verdict"] == b["verdict"] and b["estimate"] == pytest.approx(1e6 * a["estimate"])


def test_the_reference_decides_the_sign(tmp_path, capsys):
    place = write(tmp_path, some_runs())
    up = {row["name"]: row["estimate"] for row in asked(place, capsys)["effects"]}
    down = {row["name"]: row["estimate"] for row in asked(place, capsys, reference=["kernel=5"])["effects"]}
    assert up["kernel: 5 - 3"] == pytest.approx(-down["kernel: 3 - 5"]) and up["kernel: 5 - 3"] > 0.015


def test_without_delta_nothing_is_said_to_make_no_difference(tmp_path, capsys):
    place = write(tmp_path, some_runs())
    assert {row["verdict"] for row in asked(place, capsys)["effects"]} == {"effect", "inconclusive"}
    assert "equivalent" in {row["verdict"] for row in asked(place, capsys, delta=0.01)["effects"]}


def test_a_parquet_file_says_the_same_as_a_csv_file(tmp_path, capsys):
    rows = some_runs()
    pd.DataFrame(rows).to_parquet(tmp_path / "runs.parquet")
    found = [asked(place, capsys) for place in (write(tmp_path, rows), str(tmp_path / "runs.parquet"))]
    assert found[0]["effects"] == found[1]["effects"] and found[0]["reference"] == {"kernel": "3", "depth": "1"}


def test_text_truth_values_and_numbers_are_levels(tmp_path, capsys):
    rows = [
        {"act": act, "norm": norm, "lr": lr, "seed": seed, "y": seed + (norm == "True")}
        for act, norm, lr, seed in itertools.product(
            ("None", "relu, 6"), ("True", "False"), ("1e-3", "0.01"), (1, 2, 4)
        )
    ]
    found = asked(write(tmp_path, rows), capsys, factors="act, norm, lr", metric="y", reference=["lr=0.010"])
    assert found["reference"] == {"act": "None", "norm": "off", "lr": "0.01"}
    assert "norm: on - off" in {row["name"] for row in found["effects"]}


def test_an_interaction_is_drawn_at_the_levels_that_it_compares(tmp_path):
    comparison = Comparison.of(
        read_runs(write(tmp_path, some_runs())), Request(("kernel", "depth"), "test_acc", "seed")
    )
    shown = [cells(comparison.runs, {"kernel": "5", "depth": level}) for level in ("2", "3")]
    assert [one.levels for one in shown] == [((3, 5), (1, 2)), ((3, 5), (1, 3))]
    assert shown[1].mean[0, 1] == pytest.approx(0.86, abs=0.005)


# -- what is refused -------------------------------------------------------------------------------------------------


def without(rows: list[dict], **levels) -> list[dict]:
    return [row for row in rows if not all(row[name] == level for name, level in levels.items())]


def changed(rows: list[dict], number: int, **values) -> list[dict]:
    return [row | values if i == number else row for i, row in enumerate(rows)]


def with_state(state: str) -> list[dict]:
    return [row | {"state": state} for row in RUNS]


RUNS = some_runs()
LOG = [row | {"epoch": epoch} for row in RUNS for epoch in (1, 2)]
BETTER_HAS_MORE = [
    r | {"seed": 100 * r["seed"] + i} for r in RUNS for i in range(1 + 2 * (r["kernel"] == 5) + 3 * r["depth"])
]
REFUSED = {
    "unequal budgets": (changed(RUNS, 4, epochs=3), {"budget": "epochs"}, 3, "epochs: 9 in 17 runs, 3 in 1 run"),
    "a budget that is not named": (changed(RUNS, 4, epochs=3), {}, 2, "looks like a budget and differs"),
    "steps in another spelling": ([r | {"globalStep": i} for i, r in enumerate(RUNS)], {}, 2, "--ignore globalStep"),
    "a log of epochs": (LOG, {}, 3, "differ in 'epoch': keep one row a run"),
    "pruned runs": (changed(with_state("COMPLETE"), 2, state="PRUNED"), {}, 3, "1 run was stopped early"),
    "a column of pruning": ([r | {"pruned": i == 2} for i, r in enumerate(RUNS)], {}, 3, "chosen by their results"),
    "runs that failed": (changed(with_state("finished"), 2, state="crashed"), {}, 3, "crashed in 1 run"),
    "pruned in other words": (changed(with_state("TrialState.COMPLETE"), 2, state="early stopped"), {}, 3, "1 run was"),
    "pruning as a number": ([r | {"Pruned": float(i == 2)} for i, r in enumerate(RUNS)], {}, 3, "1 run was stopped"),
    "explore trials": ([r | {"phase": "explore"} for r in RUNS], {}, 3, "18 runs were chosen by a search"),
    "one seed": ([r for r in RUNS if r["seed"] == 0], {}, 3, "have one seed, 0"),
    "one run a cell": ([r for i, r in enumerate(RUNS) if i % 3 == i // 3 % 3], {}, 3, "every combination has one run"),
    "a cell with fewer runs": (RUNS[:-1], {}, 3, "3 runs of kernel=3, depth=1, 2 of kernel=5, depth=3"),
    "better cells with more runs": (BETTER_HAS_MORE, {}, 3, "better combinations have more runs (rank correlation"),
    "a cell without a run": (without(RUNS, kernel=5, depth=2), {}, 3, "of 6 without a run (kernel=5, depth=2)"),
    "other seeds in a cell": (changed(RUNS, 0, seed=7), {}, 3, "kernel=3, depth=1 has seed=1, 2, 7, others have 0"),
    "a seed for each run": ([r | {"seed": i} for i, r in enumerate(RUNS)], {}, 3, "number the replicates"),
    "a run twice": ([*RUNS, RUNS[0]], {}, 3, "2 runs of kernel=3, depth=1 with seed=0 (rows 1, 19)"),
    "a factor that is not named": ([r | {"lr": lr} for r in RUNS for lr in (1, 2)], {}, 3, "differ in lr: name"),
    "a missing result": (changed(RUNS, 3, test_acc=None), {}, 3, "column 'test_acc': no value in 1 row (4)"),
    "a missing level": (changed(RUNS, 3, depth=None), {}, 3, "column 'depth': no value in 1 row (4)"),
    "a missing seed": (changed(RUNS, 3, seed=""), {}, 3, "column 'seed': no value in 1 row (4)"),
    "a result that is not finite": (changed(RUNS, 3, test_acc="nan"), {}, 3, "row 4: need a finite number, got nan"),
    "an infinite result": (changed(RUNS, 3, test_acc="-inf"), {}, 3, "row 4: need a finite number, got -inf"),
    "a result that is text": (changed(RUNS, 3, test_acc="84%"), {}, 3, "need a number, got"),
    "one level": ([r | {"depth": 1} for r in RUNS], {}, 3, "factor 'depth' has one level, 1"),
    "a continuous factor": ([r | {"depth": i / 7} for i, r in enumerate(RUNS)], {}, 3, "18 levels in 18 runs: it is"),
    "no rows": ([], {}, 3, "is empty"),
    "a factor that is not there": (RUNS, {"factors": "kernels,depth"}, 2, "no such column (did you mean 'kernel'?)"),
    "no factor": (RUNS, {"factors": " , "}, 2, "--factors: need at least one column"),
    "a metric that is not there": (RUNS, {"metric": "acc"}, 2, "--metric acc"),
    "two roles": (RUNS, {"metric": "depth"}, 2, "depth: is named for two roles"),
    "a reference of no factor": (RUNS, {"reference": ["epochs=9"]}, 2, "epochs is not among --factors"),
    "a reference that is no level": (RUNS, {"reference": ["kernel=7"]}, 2, "kernel=7: no such level (allowed: 3, 5)"),
    "a reference without level": (RUNS, {"reference": ["kernel"]}, 2, "need FACTOR=LEVEL"),
    "a negative delta": (RUNS, {"delta": -1.0}, 2, "--delta -1.0: need a number of 0 or more"),
    "alpha": (RUNS, {"alpha": 1.0}, 2, "--alpha 1.0: need 0 < alpha < 1"),
    "a study of a file": (RUNS, {"study": "a"}, 2, "is no Optuna storage"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_runs_that_carry_no_comparison_are_refused_with_the_reason(tmp_path, capsys, case):
    rows, options, code, words = REFUSED[case]
    place = write(tmp_path, rows)
    assert words in refused(place, capsys, code, output=tmp_path / "out", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]


def test_what_is_ignored_is_not_refused(tmp_path, capsys):
    rows = [row | {"best_epoch": i, "State": "early"} for i, row in enumerate(RUNS)]
    assert asked(write(tmp_path, rows), capsys, ignore=["best_epoch", "State"])["effects"]


def test_times_and_sizes_are_no_budgets(tmp_path, capsys):
    rows = [row | {"step_size": i, "steps_per_second": i, "epoch_seconds": i} for i, row in enumerate(RUNS)]
    assert asked(write(tmp_path, rows), capsys)["effects"]


def test_a_star_is_compared_from_its_centre_alone(tmp_path, capsys):
    star = [row for row in RUNS if row["kernel"] == 5 or row["depth"] == 2]
    star = without(star, kernel=3, depth=1)
    place = write(tmp_path, star)
    found = asked(place, capsys)
    assert found["design"] == "one-factor" and found["reference"] == {"kernel": "5", "depth": "2"}
    assert {row["name"] for row in found["effects"]} == {"kernel: 3 - 5", "depth: 1 - 2", "depth: 3 - 2"}
    assert "one factor at a time from kernel=5, depth=2" in refused(place, capsys, 2, reference=["kernel=3"])


def test_columns_that_go_with_the_cells_and_a_budget_that_nobody_tells_are_said(tmp_path, capsys):
    rows = [{"size": 10 * r["kernel"] + r["depth"]} | {k: v for k, v in r.items() if k != "epochs"} for r in RUNS]
    said = " ".join(asked(write(tmp_path, rows), capsys)["trusted"])
    assert "part of what is compared: size" in said and "No column tells the budget" in said
    assert "no run was left out" in said


@pytest.mark.parametrize(
    "name, content, code, words",
    [
        ("runs.txt", b"a", 2, "need a file .csv, .tsv, .parquet, .pq, or an Optuna storage"),
        ("none.csv", None, 2, "no such file"),
        ("runs.csv", b"", 3, "is empty"),
        ("runs.csv", b"kernel,depth,seed,test_acc\n", 3, "has no runs"),
        ("runs.csv", b"a,a\n1,2\n", 3, "duplicate column 'a'"),
        ("runs.csv", b"a,b\n1\n", 3, "line 2: has 1 values (allowed: 2, as above)"),
        ("runs.csv", b"a,b\n1,\xff\n", 3, "not UTF-8 at byte 6"),
        ("runs.csv", b'a,b\n1,"2\n', 3, "not CSV"),
        ("runs.parquet", b"PAR1 no", 3, "not Parquet"),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path, capsys, name, content, code, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert words in refused(str(tmp_path / name), capsys, code)


def test_a_results_folder_is_not_written_over(tmp_path, capsys):
    make_results(tmp_path / "made", faults=False)
    before = (tmp_path / "made/trials.parquet").read_bytes()
    place = write(tmp_path, RUNS)
    assert "holds the results of a study" in refused(place, capsys, 4, output=tmp_path / "made")
    trials = str(tmp_path / "made/trials.parquet")
    said = refused(trials, capsys, 3, factors="kernel", metric="val_accuracy", seed="seed")
    assert "chosen by a search" in said or "stopped early by a search" in said
    assert (tmp_path / "made/trials.parquet").read_bytes() == before


def test_names_and_levels_of_any_text_are_shown(tmp_path, capsys):
    acts = {0: "relu, 6", 1: "a × b", 2: "$x$ 字"}
    rows = [{"act": acts[r["depth"] - 1], "größe $k$": r["kernel"]} | r for r in RUNS]
    out = tmp_path / "out"
    given = {"factors": "act,größe $k$", "metric": "test_acc", "seed": "seed", "ignore": ["kernel", "depth"]}
    analyse(write(tmp_path, rows), output=out, **given)
    said = capsys.readouterr()
    assert "größe $k$ 5 instead of 3" in said.out and said.err == ""
    assert (
        "relu, 6" in (out / "report.html").read_text(encoding="utf-8") and (out / "figures/interactions.svg").exists()
    )
    analyse(
        write(tmp_path, [row for row in rows if row["act"] == acts[0]]), output=out, **given | {"factors": "größe $k$"}
    )
    assert not (out / "figures/interactions.svg").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path, capsys):
    place = write(tmp_path, RUNS)
    before = Path(place).read_bytes()
    assert "--output" in refused(place, capsys, 2, output=Path(place))
    assert Path(place).read_bytes() == before


# -- Optuna ----------------------------------------------------------------------------------------------------------

SPACE = {"kernel": list(KERNELS), "depth": list(DEPTHS), "seed": list(SEEDS)}


def objective(trial: optuna.Trial) -> float:
    kernel = trial.suggest_categorical("kernel", KERNELS)
    depth, seed = trial.suggest_int("depth", 1, 3), trial.suggest_int("seed", 0, 2)
    return next(r["test_acc"] for r in RUNS if (r["kernel"], r["depth"], r["seed"]) == (kernel, depth, seed))


def stored(
    place: Path, name: str, sampler: optuna.samplers.BaseSampler, trials: int = 18, how=objective, study="s"
) -> str:
    """An Optuna study that was run; returns where it lies."""
    path = str(place / name)
    if name.endswith(".db"):
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    else:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
    made = optuna.create_study(storage=storage, study_name=study, sampler=sampler, direction="maximize")
    if sampler is not None and isinstance(sampler, optuna.samplers.RandomSampler) and trials == 18:
        for values in itertools.product(*SPACE.values()):
            made.enqueue_trial(dict(zip(SPACE, values, strict=True)))
    made.optimize(how, n_trials=trials, catch=ValueError)
    return path


@pytest.mark.parametrize("name", ["runs.db", "runs.log"])
@pytest.mark.parametrize(
    "sampler",
    [optuna.samplers.GridSampler(SPACE), optuna.samplers.RandomSampler(), optuna.samplers.BruteForceSampler()],
    ids=["grid", "enqueued", "exhaustive"],
)  # fmt: skip
def test_an_optuna_study_that_left_nothing_to_the_sampler_is_compared(tmp_path, capsys, name, sampler):
    found = asked(stored(tmp_path, name, sampler), capsys, metric="value")
    expected = asked(write(tmp_path, RUNS), capsys)
    assert found["better"] == "higher" and found["runs"].endswith(f"{name}, study s")
    for a, b in zip(found["effects"], expected["effects"], strict=True):
        assert (
            a["name"] == b["name"] and a["estimate"] == pytest.approx(b["estimate"]) and a["p"] == pytest.approx(b["p"])
        )


def balanced_part(trial: optuna.Trial) -> float:
    """All that is compared is crossed with all seeds, but the sampler left kernel 7 and depth 3 out."""
    kernel = trial.suggest_categorical("kernel", (3, 5, 7))
    depth, seed = trial.suggest_int("depth", 1, 3), trial.suggest_int("seed", 0, 2)
    return next(r["test_acc"] for r in RUNS if (r["kernel"], r["depth"], r["seed"]) == (kernel, depth, seed))


class Part(optuna.samplers.BaseSampler):
    """Proposes a balanced part of the space, as a search may by chance."""

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        number = trial.number
        return {
            "kernel": KERNELS[number % 2],
            "depth": 1 + number // 2 % 2,
            "seed": number // 4 % 3,
            "lr": 0.1 * number / 12,
        }[name]


def with_range(trial: optuna.Trial) -> float:
    return balanced_part(trial) + 0 * trial.suggest_float("lr", 0, 1)


@pytest.mark.parametrize(
    "sampler, trials, how, words",
    [
        (optuna.samplers.TPESampler(seed=0), 20, objective, "combinations of kernel, depth, seed were tried"),
        (Part(), 12, balanced_part, "12 of 27 combinations of kernel, depth, seed were tried"),
        (Part(), 12, with_range, "a sampler chose lr from a range"),
        (optuna.samplers.NSGAIISampler(seed=0), 18, objective, "the trials were chosen by NSGAIISampler"),
        (optuna.samplers.RandomSampler(seed=0), 19, objective, "combinations of kernel, depth, seed were tried"),
    ],
    ids=["tpe", "part", "range", "nsga", "random"],
)
def test_trials_that_a_sampler_chose_are_refused(tmp_path, capsys, sampler, trials, how, words):
    place = stored(tmp_path, "runs.db", sampler, trials, how)
    said = refused(place, capsys, 3, metric="value")
    assert words in said and "GridSampler or enqueue_trial" in said


def test_pruned_trials_failed_trials_and_unequal_steps_are_refused(tmp_path, capsys):
    def pruned(trial):
        if trial.number == 3:
            raise optuna.TrialPruned
        return objective(trial)

    def failed(trial):
        if trial.number == 3:
            raise ValueError
        return objective(trial)

    def longer(trial):
        for step in range(3 + (trial.number == 3)):
            trial.report(0.5, step)
        return objective(trial)

    grid = optuna.samplers.GridSampler
    assert "1 run was stopped early" in refused(
        stored(tmp_path, "a.db", grid(SPACE), 18, pruned), capsys, 3, metric="value"
    )
    said = refused(stored(tmp_path, "b.db", grid(SPACE), 18, failed), capsys, 3, metric="value")
    assert "1 run was not finished (fail in 1 run)" in said
    place = stored(tmp_path, "c.db", grid(SPACE), 18, longer)
    assert "'last_step' looks like a budget" in refused(place, capsys, 2, metric="value")
    assert "unequal budgets, last_step" in refused(place, capsys, 3, metric="value", budget="last_step")


def test_storages_that_are_none_are_refused_and_left_as_they_are(tmp_path, capsys):
    with sqlite3.connect(tmp_path / "other.db") as base:
        base.execute("create table mine (x)")
    before = (tmp_path / "other.db").read_bytes()
    assert "cannot be read as an Optuna storage" in refused(str(tmp_path / "other.db"), capsys, 3)
    assert (tmp_path / "other.db").read_bytes() == before
    assert "no such file" in refused(str(tmp_path / "none.db"), capsys, 2)
    (tmp_path / "bad.log").write_text("no journal\n")
    assert "bad.log has no study" in refused(str(tmp_path / "bad.log"), capsys, 2)
    assert (tmp_path / "bad.log").read_text() == "no journal\n"
    said = refused("nothing://me:hunter2@here/x", capsys, 3)
    assert "cannot be read as an Optuna storage" in said and "hunter2" not in said
    assert {path.name for path in tmp_path.iterdir()} == {"other.db", "bad.log"}


def test_a_study_of_several_must_be_named(tmp_path, capsys):
    grid = optuna.samplers.GridSampler(SPACE, seed=0)
    stored(tmp_path, "two.db", grid)
    place = stored(tmp_path, "two.db", optuna.samplers.GridSampler(SPACE, seed=0), study="t")
    assert "has 2 studies: name one with --study (allowed: s, t)" in refused(place, capsys, 2, metric="value")
    assert "--study u: " in refused(place, capsys, 2, metric="value", study="u")
    assert asked(place, capsys, metric="value", study="t")["runs"].endswith("study t")
    said = refused(place, capsys, 2, metric="value", study="t", lower_is_better=True)
    assert "value is to be maximised" in said


# -- what is shown ---------------------------------------------------------------------------------------------------


def test_the_folder_has_the_table_and_a_page_that_says_which_way_is_better(tmp_path, capsys):
    rows = [row | {"<b>val loss": row["test_acc"]} for row in RUNS]
    out = tmp_path / "out"
    found = asked(
        write(tmp_path, rows), capsys, metric="<b>val loss", lower_is_better=True, output=out, ignore=["test_acc"]
    )
    table = read_table(ResultsFolder.at(out), "effects")
    assert len(table) == len(found["effects"]) and found["report"] == str(out / "report.html")
    assert table.schema.field("estimate").metadata[b"unit"] == b"as <b>val loss"
    page = (out / "report.html").read_text()
    assert "kernel 5 instead of 3: +0.01" in page and ", worse" in page and ", better" not in page
    assert "lower is better" in page and "<b>val" not in page and 'id="trials"' not in page
    assert {path.name for path in (out / "figures").glob("*.svg")} == {
        "effects.svg", "effects-narrow.svg", "interactions.svg",
    }  # fmt: skip


def test_the_script_prints_the_table(tmp_path):
    place = write(tmp_path, RUNS)
    command = [
        sys.executable,
        str(ROOT / "sweeps/analyse.py"),
        place,
        "--factors",
        "kernel,depth",
        "--metric",
        "test_acc",
    ]
    done = subprocess.run([*command, "--seed", "seed"], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "of 5 comparisons are effects; 18 runs: 6 combinations of kernel and depth, 3 seeds each" in done.stdout
    assert "kernel 5 instead of 3" in done.stdout and "Taken on trust" in done.stdout


def test_reading_a_table_loads_neither_torch_nor_ray_nor_optuna(tmp_path):
    place = write(tmp_path, RUNS)
    code = (
        "import sys\n"
        "from resnetlab.analysis.foreign.comparison import Comparison\n"
        "from resnetlab.analysis.foreign.refusals import Request\n"
        "from resnetlab.analysis.foreign.tables import read_runs\n"
        f"Comparison.of(read_runs({place!r}), Request(('kernel', 'depth'), 'test_acc', 'seed')).effects\n"
        "sys.exit(', '.join({'torch', 'ray', 'optuna'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
