"""A study that asks for more than its results have: what goes on, what is added, and what is refused."""

import json
import random
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from sweeps_here import run_here
from test_real_sweep import environment
from test_sweep import FACTORS, FACTS, Trainer, drive

import resnetlab
from resnetlab.analysis.results import Results
from resnetlab.comparison.folders import Comparison
from resnetlab.comparison.shown import notes
from resnetlab.driver.checks.extend import check_identity
from resnetlab.driver.checks.request import look
from resnetlab.errors import BadData, BadRequest, FolderRefused
from resnetlab.report.build import build
from resnetlab.report.findings import Findings
from resnetlab.report.terminal import told
from resnetlab.storage import versions
from resnetlab.storage.content_hash import content_hash, repeatable
from resnetlab.storage.lease import check_free
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store, read_table
from resnetlab.study import build_study
from resnetlab.study.extension import extension
from resnetlab.sweep.extended import write_study
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import one_dataset

ROOT = Path(__file__).resolve().parents[1]
LEVELS = {"blocks": {"levels": [2, 3]}, "kernel": {"levels": [3, 5]}}


def study(factors=LEVELS, confirm=None, more=None, **search):
    return build_study(
        {
            "name": "s",
            "dataset": {"name": "glyphs"},
            "factors": factors,
            "search": {"trials": 4, "epochs": 3, "sampler": "random", "stopping": False, "audit": 0, **search},
            "confirm": {"seeds": 3, **(confirm or {})},
            **(more or {}),
        },
        "s.yaml",
    )


def asked(old, new):
    found = extension(old, new)
    return found.kinds, " | ".join(found.refused)


def begin(path, one, extends=False, stage="all"):
    folder = ResultsFolder.at(path)
    asks = check_identity(one, folder, extends)
    store = Store(folder, one.columns)
    facts = FACTS | {"study_version": write_study(store, one, asks)}
    return Sweep(one, store, facts, one_dataset(one, "d", ["a", "b"]), stage)


def run(path, one, extends=False, stage="all", steps=None):
    """Run it, one trial after another; its rows, in the order of the table."""
    sweep = begin(path, one, extends, stage)
    drive(sweep, Trainer(), slots=1, steps=steps)
    if steps is not None:
        sweep.interrupt()
    assert sweep.error is None
    sweep.store.close()
    return read_table(ResultsFolder.at(path), "trials").to_pylist()


def explored(rows):
    """What is the same however often a study was extended: all but times and the version."""
    drop = {"started", "ended", "study_version"}
    kept = [row for row in rows if row["phase"] in ("explore", "audit") and row["status"] != "replaced"]
    return [{name: value for name, value in sorted(row.items()) if name not in drop} for row in kept]


def dry(path, one, extends=True):
    folder = ResultsFolder.at(path)
    return " ".join(look(one, folder, {"d"}, {}, "all", extension=check_identity(one, folder, extends)))


# -- what is an extension ----------------------------------------------------------------------------------------------

SGD, ADAM = (
    {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 0.5},
    {"when": {"optimizer": "adamw"}, "levels": [1e-3, 0.01]},
)
TUNED = {"optimizer": {"levels": ["sgd", "adamw"]}, "lr": [SGD, ADAM]}
MORE = [
    ({"trials": 9}, {"trials"}),
    ({"epochs": 9}, {"budget"}),
    ({"confirm": {"seeds": 4}}, {"seeds"}),
    ({"confirm": {"seeds": 4, "delta": 1.0}}, {"plan"}),
    ({"confirm": {"seeds": 2}}, {"plan"}),
    ({"more": {"hypotheses": ["kernel 5 > kernel 3"]}}, {"plan"}),
    ({"factors": LEVELS | {"kernel": {"levels": [7, 5, 3]}}}, {"levels"}),
    ({"factors": LEVELS | {"pool": {"levels": ["average", "flatten"]}}, "trials": 5}, {"factor", "trials"}),
    ({"factors": LEVELS | {"lr": {"low": 0.01, "high": 0.5}}}, {"factor"}),
]
LESS = [
    ({"trials": 3}, "search.trials: 4 in the folder, 3 asked for (allowed: 4 or more)"),
    ({"epochs": 2}, "search.epochs: 3 in the folder, 2 asked for (allowed: 3 or more)"),
    ({"factors": {"blocks": {"levels": [2, 3]}}}, "factors.kernel: in the folder, not asked for"),
    ({"factors": LEVELS | {"kernel": {"levels": [3, 7]}}}, "factors.kernel: 3, 5 in the folder, 3, 7 asked for (all"),
    ({"more": {"baseline": {"kernel": 5}}}, "baseline.kernel: None in the folder, 5 asked for"),
    (
        {"factors": LEVELS | {"pool": {"levels": ["average", "flatten"]}}, "more": {"baseline": {"pool": "flatten"}}},
        "baseline.pool: average in the folder, flatten asked for (allowed: average, at which the trials of the",
    ),
    ({"sampler": "tpe"}, "search.sampler: 'random' in the folder, 'tpe' asked for"),
    ({"more": {"seed": 1}}, "seed: 0 in the folder, 1 asked for"),
    ({"more": {"dataset": {"name": "digits"}}}, "dataset.name: 'glyphs' in the folder, 'digits' asked for"),
    ({"more": {"precision": "bf16"}}, "precision: 'fp32' in the folder, 'bf16' asked for"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "kinds"), MORE)
def test_what_asks_for_more_is_an_extension(changes, kinds):
    assert asked(study(), study(**changes)) == (kinds, "")


@pytest.mark.parametrize(("changes", "words"), LESS)
def test_what_asks_for_less_or_other_things_is_refused_with_what_is_allowed(changes, words):
    _, refused = asked(study(), study(**changes))
    assert words in refused


def test_a_condition_may_hold_at_further_levels_and_at_no_others():
    old = study(TUNED)
    sgd = {**SGD, "when": {"optimizer": ["sgd", "rmsprop"]}}
    optimizers = {"optimizer": {"levels": ["sgd", "adamw", "rmsprop"]}}
    assert asked(old, study(optimizers | {"lr": [sgd, ADAM]})) == ({"levels"}, "")
    assert asked(old, study(optimizers | {"lr": [SGD, ADAM, {**SGD, "when": {"optimizer": "rmsprop"}}]}))[1] == ""
    assert asked(old, study(TUNED | {"lr": [{**SGD, "low": 0.001}, ADAM]})) == ({"levels"}, "")
    for lr in ([ADAM, SGD], [{**SGD, "low": 0.02}, ADAM], [{**SGD, "log": True}, ADAM], [{"low": 1e-3, "high": 0.5}]):
        assert "factors.lr" in asked(old, study(TUNED | {"lr": lr}))[1]


def test_further_arms_follow_those_of_before():
    def arms(*names):
        given = {name: {"blocks": blocks} for blocks, name in enumerate(names, 2)}
        content = {"name": "s", "dataset": {"name": "glyphs"}, "arms": given, "confirm": {"design": "arms"}}
        return build_study(content, "s.yaml")

    assert asked(arms("a", "b"), arms("a", "b", "c")) == ({"arm"}, "")
    assert "allowed: further ones after those" in asked(arms("a", "b"), arms("b", "a", "c"))[1]
    assert "allowed: further ones after those" in asked(arms("a", "b", "c"), arms("a", "b"))[1]


# -- more explore trials -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "grid", "quasi-random"])
@pytest.mark.parametrize("stopping", [False, True])
def test_more_explore_trials_are_those_of_a_study_that_asked_for_all_from_the_start(tmp_path, sampler, stopping):
    more = {"sampler": sampler, "stopping": stopping, "epochs": 9, "audit": 0.2}
    factors = FACTORS if sampler != "grid" else LEVELS | {"pool": {"levels": ["average", "flatten"]}}
    run(tmp_path / "grown", study(factors, trials=3, **more))
    grown = run(tmp_path / "grown", study(factors, trials=5, **more), extends=True)
    grown = run(tmp_path / "grown", study(factors, trials=8, **more), extends=True) or grown
    whole = run(tmp_path / "whole", study(factors, trials=8, **more))
    assert explored(grown) == explored(whole) and len(explored(grown)) == 8
    versions_of = [row["study_version"] for row in grown if row["phase"] in ("explore", "audit")]
    assert versions_of == [1] * 3 + [2] * 2 + [3] * 3
    numbers = [row["number"] for row in grown]
    assert sorted(numbers) == list(range(len(grown)))
    plans = [json.loads((tmp_path / place / "plan.json").read_text()) for place in ("grown", "whole")]
    assert plans[0]["incumbent"] == plans[1]["incumbent"]


TAUGHT = {
    "tpe": FACTORS,
    "linear": FACTORS,
    "gp": LEVELS | {"lr": {"low": 0.01, "high": 0.5, "log": True}},
    "cma-es": {"lr": {"low": 0.01, "high": 0.5, "log": True}, "dropout": {"low": 0.0, "high": 0.5}},
}


@pytest.mark.parametrize("sampler", TAUGHT)
def test_a_sampler_that_learns_proposes_the_same_where_one_trial_runs_at_a_time(tmp_path, sampler):
    more = {"sampler": sampler, "stopping": True, "epochs": 9, "audit": 0.2, "confirm": {"design": "none"}}
    run(tmp_path / "grown", study(TAUGHT[sampler], trials=3, **more))
    larger = study(TAUGHT[sampler], trials=8, **more)
    assert "they would be the same only with one trial at a time (--slots 1)" in dry(tmp_path / "grown", larger)
    grown, whole = run(tmp_path / "grown", larger, extends=True), run(tmp_path / "whole", larger)
    assert explored(grown) == explored(whole) and len(explored(grown)) == 8


def test_a_sampler_that_would_have_drawn_more_at_random_proposes_others_and_that_is_said(tmp_path):
    more = {"sampler": "tpe", "confirm": {"design": "none"}}
    run(tmp_path / "grown", study(FACTORS, trials=8, **more))
    larger = study(FACTORS, trials=28, **more)
    said = "after 5 that it drew at random; had all been asked for from the start, it would have drawn 7"
    assert said in dry(tmp_path / "grown", larger)
    grown, whole = (explored(run(tmp_path / place, larger, extends=place == "grown")) for place in ("grown", "whole"))
    assert grown[:5] == whole[:5] and grown[5] != whole[5]


# The default study, with less to train. One trial at a time, so that its sampler, which learns, proposes the same.
DEFAULT = (
    "--study", "default", "--slots", "1", "--epochs", "4", "--set", "dataset.variants=1", "--set", "dataset.limit=400",
    "--set", "confirm.seeds=1",
)  # fmt: skip


@pytest.mark.long
@pytest.mark.slow
def test_the_default_study_extended_on_ray_has_the_tables_of_one_that_asked_for_all_from_the_start(tmp_path):
    def sweep(place, trials, *words):
        script = [sys.executable, str(ROOT / "sweeps/ablation.py"), *DEFAULT, "--storage", str(tmp_path / place)]
        command = [*script, "--trials", str(trials), *words]
        done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=580)
        assert done.returncode == 0, done.stderr

    def rows(place, table):
        """All rows, without times and hosts."""
        return repeatable(read_table(ResultsFolder.at(tmp_path / place / "default"), table), table).to_pylist()

    sweep("whole", 8)
    sweep("grown", 4, "--phase", "explore")
    sweep("grown", 8, "--extend")
    for table in ("trials", "epochs", "rungs", "classes", "predictions"):
        assert rows("grown", table) == rows("whole", table), table
    effects = [pd.read_parquet(tmp_path / place / "default/effects.parquet") for place in ("grown", "whole")]
    assert len(effects[0]) and effects[0].equals(effects[1])
    explore = [row for row in rows("grown", "trials") if row["phase"] in ("explore", "audit")]
    assert len(explore) == 8 == len({row["lr"] for row in explore}) and rows("grown", "rungs")
    said_under = read_table(ResultsFolder.at(tmp_path / "grown/default"), "trials")["study_version"].to_pylist()
    assert said_under[:8] == [1] * 4 + [2] * 4 and set(said_under[8:]) == {2}


def test_networks_that_are_trained_are_the_same_in_every_bit(tmp_path):
    def trained(place, *trials):
        for number, many in enumerate(trials):
            content = {
                "name": "s",
                "dataset": {"name": "glyphs", "variants": 1, "limit": 200},
                "baseline": {"blocks": 1, "width": 4, "downsample": 1, "batch_size": 32},
                "factors": {"kernel": {"levels": [1, 3]}, "lr": {"low": 0.01, "high": 0.3, "log": True}},
                "search": {"trials": many, "epochs": 2, "sampler": "quasi-random"},
                "confirm": {"design": "none"},
            }
            run_here(build_study(content, "s.yaml"), tmp_path / place, tmp_path / "cache", extends=number > 0)
        return content_hash(ResultsFolder.at(tmp_path / place))

    assert trained("grown", 1, 3) == trained("whole", 3)


def test_the_plan_stands_where_the_search_ends_with_the_same_arms(tmp_path):
    best = [{"blocks": 3, "kernel": 5}]
    run(tmp_path, study(enqueue=best, trials=2))
    first = json.loads((tmp_path / "plan.json").read_text())
    said = dry(tmp_path, study(enqueue=best, trials=3))
    assert "extends it: search.trials: 2 in the folder, 3 asked for" in said
    assert f"plan {first['plan_hash']} stands if the search ends with the same arms" in said
    rows = run(tmp_path, study(enqueue=best, trials=3), extends=True)
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert len(explored(rows)) == 3
    if plan["incumbent"] == first["incumbent"]:
        assert plan == first and {row["plan_hash"] for row in rows} == {None, first["plan_hash"]}


def test_a_dry_run_speaks_of_a_plan_once_and_says_where_there_is_none(tmp_path):
    run(tmp_path, study(trials=2), stage="explore")
    said = dry(tmp_path, study(trials=3))
    first = "continues: 2 of 3 explore trials ended   extends it: search.trials: 2 in the folder, 3 asked for"
    assert first in said and said.endswith("  no plan has been made yet, so none changes")
    assert "continues: 2 of 2 explore trials ended, no plan yet" in dry(tmp_path, study(trials=2), extends=False)
    run(tmp_path, study(trials=2))
    said = dry(tmp_path, study(trials=3))
    assert "no plan" not in said and "stands if the search ends with the same arms" in said


def test_a_new_incumbent_means_a_second_plan_and_the_verdicts_of_the_first_stand(tmp_path):
    def one(trials):
        return study(enqueue=[{"blocks": 3, "kernel": 5}], trials=trials, more={"baseline": {"blocks": 2}})

    run(tmp_path, one(1))  # the baseline alone, of two blocks; the next trial is better
    first = json.loads((tmp_path / "plan.json").read_text())
    before = Findings(Results.open(tmp_path)).effects.set_index("name")["verdict"]
    assert run(tmp_path, one(2), extends=True, stage="explore")
    found = Findings(Results.open(tmp_path))
    assert found.results.plan is None and set(found.earlier["plan_hash"]) == {first["plan_hash"]}
    assert "Earlier verdicts stand" in told_of(found) and "Earlier plans" in build_page(tmp_path)
    rows = run(tmp_path, one(2))
    second = json.loads((tmp_path / "plan.json").read_text())
    assert second["incumbent"] != first["incumbent"] and "adds_to" not in second
    assert len({row["seed"] for row in rows if row["plan_hash"]}) == 3 + 3
    found = Findings(Results.open(tmp_path))
    earlier = found.earlier.set_index("name")
    assert earlier["verdict"].to_dict() == before.to_dict() and earlier["pooled"].isna().all()
    assert f"Earlier verdicts stand beside these (plan {first['plan_hash']}" in told_of(found)


def told_of(found):
    from resnetlab.report.answer import answer

    return answer(found).lead


def build_page(place):
    return (build(Findings(Results.open(place)))).read_text()


# -- further seeds -----------------------------------------------------------------------------------------------------


def test_further_seeds_are_a_second_plan_and_the_first_verdict_stands(tmp_path):
    run(tmp_path, study())
    first = Findings(Results.open(tmp_path))
    held = first.results.plan
    with pytest.raises(FolderRefused, match=r"has runs on 3 seeds; add --extend to run 2 more as a second plan"):
        check_identity(study(confirm={"seeds": 5}), ResultsFolder.at(tmp_path))
    said = dry(tmp_path, study(confirm={"seeds": 5}))
    assert (
        "confirm.seeds: 3 in the folder, 5 asked for" in said
        and "on 2 further seeds" in said
        and "stands if" not in said
    )
    rows = run(tmp_path, study(confirm={"seeds": 5}), extends=True)
    found = Findings(Results.open(tmp_path))
    plan = found.results.plan
    assert plan.adds_to == held.plan_hash and plan.seeds == 2 and plan.arms == held.arms and plan.alpha == held.alpha
    mine, theirs = ([row for row in rows if row["plan_hash"] == one.plan_hash] for one in (plan, held))
    assert len(mine) == 2 * len(plan.arms) and len(theirs) == 3 * len(plan.arms)
    assert not {row["seed"] for row in mine} & {row["seed"] for row in theirs}
    assert {row["study_version"] for row in mine} == {2} and {row["study_version"] for row in theirs} == {1}
    earlier, before = (table.set_index("name") for table in (found.earlier, first.effects))
    assert (earlier["verdict"] == before.loc[earlier.index, "verdict"]).all() and len(earlier)
    now = found.effects.set_index("name").loc[earlier.index]
    for pooled, *ends in zip(earlier["pooled"], before.loc[earlier.index, "estimate"], now["estimate"], strict=True):
        assert min(ends) <= pooled <= max(ends)
    assert f"earlier verdicts stand (plan {held.plan_hash} on 3 seeds: " in told_of(found)
    page = build_page(tmp_path)
    assert "Earlier plans" in page and "It describes, and gives no verdict" in page
    assert "belong to another plan" not in page
    assert f"{len(theirs)} runs belong to plans that ended before the one in force" in page
    assert f"It adds 2 seeds to plan {held.plan_hash}" in page and "confirm.seeds: 3 then, 5 now" in page
    assert versions.number(ResultsFolder.at(tmp_path)) == 2
    check_identity(study(confirm={"seeds": 5}), ResultsFolder.at(tmp_path))  # nothing is left to refuse


def test_a_comparison_of_folders_says_which_plans_it_leaves_out(tmp_path):
    run(tmp_path / "a", study())
    run(tmp_path / "b", study(more={"seed": 1}))
    first = Results.open(tmp_path / "a").planned
    both = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert not [note for note in notes(Comparison.of(both)) if "left out" in note]
    run(tmp_path / "a", study(confirm={"seeds": 5}), extends=True)
    comparison = Comparison.of(both)
    now = comparison.plans[0].plan_hash
    assert now != first.plan_hash
    (said,) = [note for note in notes(comparison) if "left out" in note]
    assert f"plan {first.plan_hash} ended before the one in force, {now}, and is left out here" in said
    assert {answer.n for one in comparison.compared for answer in one.answers if answer.study == 0} == {2}  # its own


def test_a_plan_that_has_not_ended_is_run_to_its_end_before_the_second_begins(tmp_path):
    run(tmp_path, study(), steps=4 * 3 + 4)
    held = Results.open(tmp_path).plan
    rows = run(tmp_path, study(confirm={"seeds": 4}), extends=True)
    plan = Results.open(tmp_path).plan
    assert plan.adds_to == held.plan_hash and (tmp_path / "plans" / f"{held.plan_hash}.json").exists()
    ended = {name: max(row["ended"] for row in rows if row["plan_hash"] == name) for name in (held.plan_hash,)}
    began = min(row["started"] for row in rows if row["plan_hash"] == plan.plan_hash)
    assert ended[held.plan_hash] <= began and {row["status"] for row in rows} == {"complete"}


@pytest.mark.parametrize(
    ("change", "steps", "ended", "planned"),
    [
        ({"confirm": {"seeds": 5}}, 3 * 3 + 1, 4 + 3, 4 + 2 * 3),  # another plan is in force
        ({"epochs": 6}, 6 + 1, 1, 4),  # none is yet: 9 runs are of the plan that was replaced
    ],
)
def test_runs_of_a_plan_that_was_replaced_are_not_counted(tmp_path, change, steps, ended, planned):
    """`14 of 10 trials ended` was said: 4 + 3 of the new plan's, and those of the old one."""
    run(tmp_path, study())
    of_before = len(Results.open(tmp_path).confirm)
    run(tmp_path, study(**change), extends=True, steps=steps)
    found = Findings(Results.open(tmp_path))
    standing = told(found, str(tmp_path)).standing
    assert of_before == 9 and len(found.results.trials) >= of_before + ended  # all of them are in the table
    assert (standing.ended, standing.planned) == (ended, planned)
    assert f": {ended} of {planned} trials ended" in standing.line()
    live = begin(tmp_path, study(**change))
    live.store.close()
    assert sum(number for status, number in live.counts().items() if status == "complete") == ended


def test_a_search_that_found_no_more_to_propose_is_not_unfinished_once_its_plan_has_run(tmp_path):
    """Four combinations of levels, eight trials asked for: 13 of 17 were said to have ended."""
    run(tmp_path, study(trials=8))
    said = told(Findings(Results.open(tmp_path)), str(tmp_path))
    assert (said.state, said.standing.ended, said.standing.planned) == ("finished", 13, 13)


def test_seeds_are_added_to_what_was_added(tmp_path):
    for seeds in (2, 4, 7):
        run(tmp_path, study(confirm={"seeds": seeds}), extends=seeds > 2)
    found = Findings(Results.open(tmp_path))
    assert found.results.plan.seeds == 3 and found.earlier["plan_hash"].nunique() == 2
    assert found.earlier.groupby("name")["pooled"].nunique().eq(1).all()  # of all three


def test_a_plan_without_runs_is_replaced_when_more_seeds_are_asked_for(tmp_path):
    run(tmp_path, study(), stage="plan")
    run(tmp_path, study(confirm={"seeds": 4}))
    plan = Results.open(tmp_path).plan
    assert plan.seeds == 4 and not plan.adds_to


def test_further_seeds_that_are_too_few_for_looks_are_refused(tmp_path):
    run(tmp_path, study(confirm={"looks": "blocks"}))
    with pytest.raises(BadRequest, match=r"confirm.seeds: 4 is 1 more than ran: .*3 to 100"):
        check_identity(study(confirm={"looks": "blocks", "seeds": 4}), ResultsFolder.at(tmp_path), True)


# -- further levels and factors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "grid", "quasi-random", "tpe"])
def test_further_levels_and_factors_leave_old_trials_at_their_baseline_level(tmp_path, sampler):
    old = study(sampler=sampler)
    before = run(tmp_path, old)
    first = Results.open(tmp_path).plan.plan_hash
    factors = {"kernel": {"levels": [3, 5, 7]}, "blocks": LEVELS["blocks"], "pool": {"levels": ["average", "flatten"]}}
    new = study(factors, sampler=sampler, trials=8)
    with pytest.raises(FolderRefused, match="add --extend to go on from its results"):
        check_identity(new, ResultsFolder.at(tmp_path))
    said = dry(tmp_path, new)
    assert "factors.pool: a further factor, average, flatten" in said and "a new plan follows, on fresh seeds" in said
    rows = run(tmp_path, new, extends=True)
    assert len(explored(rows)) == 8
    kept = {row["trial_id"]: row for row in rows}
    for row in before:
        now = kept[row["trial_id"]]
        changed = {name for name in now if now[name] != row.get(name)} - {"pool", "number"}
        assert not changed and now["pool"] == json.loads(now["config"])["pool"] == "average"
    points = [(row["blocks"], row["kernel"], row["pool"]) for row in explored(rows)]
    assert len(set(points)) == 8  # none is tried twice
    plan = Results.open(tmp_path).plan
    assert plan.plan_hash != first and set(plan.compared) == {"blocks", "kernel", "pool"}
    assert plan.compared["kernel"] in ([3, 7], [5, 7], [3, 5])
    found = Findings(Results.open(tmp_path))
    assert set(found.earlier["plan_hash"]) == {first} and found.earlier["pooled"].isna().all()
    assert "Version 2 of the study extends the one before" in build_page(tmp_path)


def test_a_grid_with_further_levels_is_run_whole(tmp_path):
    run(tmp_path, study(sampler="grid", trials=3))
    rows = run(tmp_path, study(LEVELS | {"kernel": {"levels": [3, 5, 7]}}, sampler="grid", trials=9), extends=True)
    assert len({(row["blocks"], row["kernel"]) for row in explored(rows)}) == len(explored(rows)) == 6


def test_an_old_trial_that_is_no_point_of_the_new_space_is_refused(tmp_path):
    run(tmp_path, study({"optimizer": {"levels": ["sgd", "adamw"]}}))
    new = study(
        {"optimizer": {"levels": ["sgd", "adamw"]}, "beta2": {"when": {"optimizer": "adamw"}, "levels": [0.9, 0.99]}}
    )
    with pytest.raises(
        FolderRefused, match=r"--extend: trial \d is no point of the study .*beta2=0.999 is not allowed"
    ):
        dry(tmp_path, new)
    store_before = (tmp_path / "trials.parquet").read_bytes()
    with pytest.raises(FolderRefused, match="is no point"):
        run(tmp_path, new, extends=True)
    assert (tmp_path / "trials.parquet").read_bytes() == store_before and not (tmp_path / "versions").exists()


# -- a longer budget ---------------------------------------------------------------------------------------------------


def test_a_longer_budget_runs_every_explore_trial_again(tmp_path):
    run(tmp_path / "grown", study(confirm={"pilot": 2}))
    first = Results.open(tmp_path / "grown").plan
    longer = study(confirm={"pilot": 2}, epochs=6)
    assert "every explore trial and pilot run is run again" in dry(tmp_path / "grown", longer)
    grown = run(tmp_path / "grown", longer, extends=True)
    whole = run(tmp_path / "whole", longer)
    assert explored(grown) == explored(whole)
    old = [row for row in grown if row["status"] == "replaced"]
    assert len(old) == 4 + 2 and all("replaced by a run of 6 epochs" in row["reason"] for row in old)
    results = Results.open(tmp_path / "grown")
    assert (
        results.plan.plan_hash != first.plan_hash
        and not results.epochs["trial_id"].isin([row["trial_id"] for row in old]).any()
    )
    earlier = Findings(results).earlier
    assert set(earlier["plan_hash"]) == {first.plan_hash} and earlier["pooled"].isna().all()


# -- faults ------------------------------------------------------------------------------------------------------------


def test_there_must_be_results_to_extend(tmp_path):
    with pytest.raises(BadRequest, match=r"--extend: .* holds no results"):
        check_identity(study(), ResultsFolder.at(tmp_path), True)


def test_the_python_interface_extends_too(tmp_path):
    with pytest.raises(BadRequest, match=r"--extend: .* holds no results"):
        resnetlab.run(study(), storage=tmp_path, extend=True)
    assert not (tmp_path / "s").exists()


def test_data_that_has_changed_is_refused(tmp_path):
    run(tmp_path, study())
    folder, new = ResultsFolder.at(tmp_path), study(trials=9)
    with pytest.raises(BadData, match="was run on data with hash d, which is now e"):
        look(new, folder, {"e"}, {}, "all", extension=check_identity(new, folder, True))


def test_nothing_more_is_no_extension(tmp_path):
    rows = run(tmp_path, study())
    assert run(tmp_path, study(), extends=True) == rows and not (tmp_path / "versions").exists()


def test_what_is_refused_says_whether_extend_would_help(tmp_path):
    run(tmp_path, study())
    folder = ResultsFolder.at(tmp_path)
    with pytest.raises(FolderRefused, match=r"different settings; add --extend to go on.*\n  search.trials: 4 in"):
        check_identity(study(trials=9), folder)
    with pytest.raises(FolderRefused, match=r"different settings; revert them"):
        check_identity(study(trials=9, more={"seed": 1}), folder)
    with pytest.raises(FolderRefused, match=r"--extend cannot go on from; revert these settings"):
        check_identity(study(trials=9, more={"seed": 1}), folder, True)


def test_while_a_driver_runs_nothing_is_extended(tmp_path, monkeypatch):
    """Of one on another host a run waits to see whether it is alive; a dry run does not."""
    running = begin(tmp_path, study())
    drive(running, Trainer(), slots=1, steps=5)
    running.store.flush()
    folder = ResultsFolder.at(tmp_path)
    for here in (False, True):
        with pytest.raises(FolderRefused, match="held by another sweep"):
            check_free(folder, here=here)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "elsewhere")
        check_free(folder, here=True)
        with pytest.raises(FolderRefused, match="held by another sweep"):
            check_free(folder)
    with pytest.raises(FolderRefused):
        begin(tmp_path, study(trials=9), extends=True)
    assert json.loads((tmp_path / "study.json").read_text())["search"]["trials"] == 4
    running.store.close()


@pytest.mark.parametrize("written", range(8))
def test_a_process_killed_while_it_extends_leaves_a_folder_that_goes_on(tmp_path, written, monkeypatch):
    old = study()
    new = study(LEVELS | {"pool": {"levels": ["average", "flatten"]}}, trials=6, confirm={"seeds": 4})
    run(tmp_path / "killed", old)
    run(tmp_path / "whole", old)
    left = iter(range(written))

    class Killed(Exception):
        pass

    for name in ("write", "delete"):
        real = getattr(ResultsFolder, name)

        def once(self, *args, real=real):
            if next(left, None) is None:
                raise Killed
            return real(self, *args)

        monkeypatch.setattr(ResultsFolder, name, once)
    sweep = None
    with suppress(Killed):
        sweep = begin(tmp_path / "killed", new, extends=True)
    monkeypatch.undo()
    lease = tmp_path / "killed" / "lease"
    for file in lease.glob("*") if lease.is_dir() else [lease]:
        file.unlink(missing_ok=True)
    if random.Random(written).random() < 0.5 and sweep is None:
        folder = ResultsFolder.at(tmp_path / "killed")
        try:
            check_identity(old, folder)
        except FolderRefused:
            pass  # the extended study was written
        else:
            run(tmp_path / "killed", old)
    killed = run(tmp_path / "killed", new, extends=True)
    whole = run(tmp_path / "whole", new, extends=True)
    assert explored(killed) == explored(whole)
    assert versions.number(ResultsFolder.at(tmp_path / "killed")) == 2
    confirmed = [
        [(row["arm"], row["seed"], row["status"]) for row in rows if row["plan_hash"]] for rows in (killed, whole)
    ]
    assert sorted(confirmed[0]) == sorted(confirmed[1])
