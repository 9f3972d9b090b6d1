"""What the arms did on the test split: by class, image by image, voting, and against their cost. Tables as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from resnetlab.analysis.evaluation import paired, test_predictions
from resnetlab.analysis.evaluation.test_predictions import LEAST_SUPPORT, ArmRuns, tasks
from resnetlab.analysis.explore.curves import Counts, class_results, confusions
from resnetlab.analysis.results import Results
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import duration, interval, listed, missing, p_value, percent, percents, signed
from resnetlab.report.layout import FOLDED, Section, Table

MOST = 40  # classes shown
MOST_ARMS = 12  # beside each other
MOST_PAIRS = 60  # rows of paired comparisons
NAMED = 20  # classes that a cell lists
LEARNT = 2.0  # times the accuracy of guessing


def per_class(findings: Findings) -> Section | None:
    """Accuracy by class and arm, the best and the worst classes, then precision, recall, F1 and mistakes of an arm."""
    results, arms = findings.results, findings.arms
    named = results.plan is not None and results.plan.design == "arms"
    tables: list[Table] = []
    for task, group in tasks(arms).items():
        tables += _of_task(results, task if len(tasks(arms)) > 1 else "", group, folded=not named)
    for arm in arms if named else [arm for arm in arms if arm.name == "incumbent"]:
        tables = [*tables, *_of_arm(results, arm, folded=True)] if named else [*_of_arm(results, arm, False), *tables]
    if not tables:
        return None
    text = [
        "On the test split at the last epoch. The accuracy of a class is its recall, here the mean over an arm's runs."
    ]
    figures = ["class-accuracy", *(f"confusion-{n}" for n in range(1, 5))]
    return Section("classes", "Per class", text, tables, figures)


def _of_task(results: Results, task: str, arms: Sequence[ArmRuns], folded: bool) -> list[Table]:
    about, recall = test_predictions.recall_by_arm(results.classes, arms[:MOST_ARMS])
    if recall.empty:
        return []
    of = f" ({task})" if task else ""
    counts = _counts(results, arms)
    rows = [
        [name, support, *map(percent, values)]
        for name, support, values in zip(
            about["name"].head(MOST), about["support"].head(MOST), recall.head(MOST).to_numpy(), strict=True
        )
    ]
    left = f" The {MOST} worst of {len(recall):,} classes; the others are in classes.parquet." * (len(recall) > MOST)
    more = f" The first {MOST_ARMS} of {len(arms)} arms." * (len(arms) > MOST_ARMS)
    by_arm = Table(
        ["Class", "Test images", *recall.columns],
        ["text", *["number"] * (1 + len(recall.columns))],
        rows,
        f"{counts}. Worst first, by the mean over the arms.{left}{more}",
        f"Accuracy per class by arm{of}",
        folded or len(rows) > FOLDED,
    )
    return [by_arm, *_best_and_worst(results, arms, of, counts, folded)]


def _best_and_worst(results: Results, arms: Sequence[ArmRuns], of: str, counts: str, folded: bool) -> list[Table]:
    """Classes at 100%, and the ten worst, of those with enough test images to tell."""
    found = {arm.name: test_predictions.extremes(results.classes, arm) for arm in arms}
    if not any(extremes.counted for extremes in found.values()):
        return []
    least = f"with at least {LEAST_SUPPORT} test images"
    rows = [
        [
            name,
            f"{one.counted:,}",
            f"{len(one.always):,}",
            f"{one.lowest:,}" if one.lowest == one.highest else f"{one.lowest:,} … {one.highest:,}",
            ", ".join(one.always[:NAMED])
            + (f" and {len(one.always) - NAMED:,} more" if len(one.always) > NAMED else ""),
        ]
        for name, one in found.items()
    ]
    headings = ["Arm", f"Classes {least}", "At 100% in every run", "At 100% in a single run", "Which, in every run"]
    best = Table(headings, ["name", "number", "number", "number", "long"], rows, f"{counts}.",
                 f"Classes at 100%{of}", folded)  # fmt: skip
    deep = max(len(one.worst) for one in found.values())
    if max(one.counted for one in found.values()) <= deep:
        return [best]  # the table of all classes shows the worst
    worst = Table(
        ["", *found],
        ["number", *["text"] * len(found)],
        [
            [
                place + 1,
                *(
                    f"{one.worst[place][0]}: {percent(one.worst[place][1])} of {one.worst[place][2]:,}"
                    if place < len(one.worst)
                    else ""
                    for one in found.values()
                ),
            ]
            for place in range(deep)
        ],
        f"{counts}. Mean accuracy over the runs, and test images.",
        f"The {deep} worst classes {least}{of}",
        folded,
    )
    return [best, worst]


def _of_arm(results: Results, arm: ArmRuns, folded: bool) -> list[Table]:
    found = class_results(results.classes, arm.ids)
    if found.empty:
        return []
    counts = _counts(results, [arm])
    rows = [
        [r.name or f"class {r[0]}", r.recall, percents(r.low, r.high), percent(r.precision), percent(r.f1), r.support]
        for r in found.head(MOST).itertuples(index=False)
    ]
    left = f" The {MOST} worst of {len(found):,}; the others are in classes.parquet." if len(found) > MOST else ""
    whose = arm.name.capitalize() if arm.name == "incumbent" else arm.name
    tables = [
        Table(
            ["Class", "Recall", "Lowest … highest run", "Precision", "F1", "Test images"],
            ["text", "bar", "number", "number", "number", "number"],
            rows,
            f"{whose}, {counts}. Recall: mean over runs. Precision and F1: of the counts of all runs together.{left}",
            f"{whose}: precision, recall and F1 by class, worst first",
            folded or len(found) > FOLDED,
        )
    ]
    wrong = confusions(results.predictions, arm.ids, dict(zip(found["class"], found["name"], strict=True)))
    if len(wrong):
        columns = wrong[["label", "predicted", "count", "share"]].itertuples(index=False)
        rows = [[label, predicted, f"{count:,}", share] for label, predicted, count, share in columns]
        headings = ["Class", "Taken for", "Times, all runs", "Share of the class"]
        tables.insert(
            0,
            Table(headings, ["text", "text", "number", "bar"], rows, f"{whose}, {counts}.",
                  f"{whose}: most frequent mistakes", folded)
        )  # fmt: skip
    return tables


def pairs(findings: Findings) -> Section | None:
    """The arms of the plan's swaps on the very same test images, seed by seed."""
    found = paired.paired(findings.predictions, _pairs(findings))
    if found.empty:
        return None
    rows = [
        [
            f"{row.arm} against {row.against}",
            row.block,
            f"{row.only:,}",
            f"{row.only_against:,}",
            signed(row.difference),
            interval(row.low, row.high),
            p_value(row.p),
        ]
        for row in found.head(MOST_PAIRS).itertuples(index=False)
    ]
    left = f" The first {MOST_PAIRS} of {len(found)}." if len(found) > MOST_PAIRS else ""
    counts = Counts.of(findings.results.confirm).words("confirm")
    headings = ["Arms", "Seed block", "Right: the first alone", "Right: the second alone", "Difference (points)",
                "95% interval over images", "McNemar's p"]  # fmt: skip
    table = Table(
        headings,
        ["name", *["number"] * 6],
        rows,
        f"{counts}. {found['images'].iloc[0]:,} test images a run. Interval: "
        f"Bonett and Price 2012. p: exact, two-sided, not adjusted for the {len(found)} rows.{left}",
    )
    text = [
        "Two trained networks on the very same test images, a row a seed, from the top-1 predictions that were kept. "
        "This answers whether these two networks, as they came out of training, would differ on other images of the "
        "same kind. It does not cover the spread from seed to seed, so it says nothing about what another seed would "
        "give: the effects above do. Where the rows of a pair disagree in sign, seeds decide more than the arm."
    ]
    return Section("paired", "The same images, arm against arm", text, [table])


def _pairs(findings: Findings) -> list[tuple[ArmRuns, ArmRuns]]:
    """Each arm with what it differs from in one thing: named arms with the first of their task, else the incumbent."""
    plan, arms = findings.results.plan, findings.arms
    if plan is None:
        return []
    if plan.design == "arms":
        return [(arm, group[0]) for group in tasks(arms).values() for arm in group[1:]]
    swaps = {arm.name for arm in plan.arms if len(arm.changed) == 1}
    base = [arm for arm in arms if arm.name == "incumbent"]
    return [(arm, base[0]) for arm in arms if arm.name in swaps] if base else []


def voting(findings: Findings) -> Section | None:
    """Majority votes of runs that were kept anyway."""
    groups, predictions = tasks(findings.arms), findings.predictions
    tables = []
    for task, arms in groups.items():
        found = paired.ensembles(predictions, arms)
        rows = [
            [
                row.what,
                row.runs,
                percent(row.accuracy),
                percents(row.low, row.high),
                percent(row.mean),
                percent(row.first),
                signed(row.accuracy - row.mean),
            ]
            for row in found.itertuples(index=False)
        ]
        headings = ["Vote of", "Runs", "Test accuracy", "95% interval over images", "Mean of its members",
                    "Its best member on validation", "Gain over the mean (points)"]  # fmt: skip
        foot = f"{_counts(findings.results, arms)}. The interval is Wilson's, over images alone."
        title = task if len(groups) > 1 else ""
        if rows:
            tables.append(Table(headings, ["name", *["number"] * 6], rows, foot, title))
    if not tables:
        return None
    text = [
        "Each image gets the class that most of the runs name; where two have as many votes, the run with the higher "
        "validation accuracy decides. Nothing is trained anew: these are the predictions that the confirm runs left. "
        "Best runs are those with the highest validation accuracy, so no ensemble was chosen by what it shows here."
    ]
    return Section("ensembles", "Ensembles", text, tables)


def transfer(findings: Findings) -> Section | None:
    """Accuracy against seconds, where arms start from what others learned."""
    results, arms = findings.results, findings.arms
    if results.plan is None or results.plan.design != "arms" or not arms:
        return None
    tested = results.classes[results.classes["split"] == "test"].groupby("trial_id")["class"].nunique()
    classes = [max((int(tested.get(run, 0)) for run in arm.ids), default=0) for arm in arms]
    found = findings.arm_costs.assign(classes=classes)
    figures = ["arm-seconds", "arm-parameters"]
    if (found["start"] == "none").all():
        return Section("arm-costs", "Accuracy against time and size", [], [], figures)
    by_name = found.set_index("arm")
    rows = [_cost(row, by_name) for row in found.itertuples(index=False) if row.start != "none" or _used(row, found)]
    headings = ["Arm", "Starts from", "Frozen stages", "Trained parameters", "Test accuracy", "Runs", "Time per epoch",
                "Training", "With its source", "Against", "Accuracy (points)", "Training time",
                "With its source"]  # fmt: skip
    table = Table(
        headings,
        ["name", "text", "text", "number", "number", "number", "number", "number", "number", "text", *["number"] * 3],
        rows,
        f"{_counts(results, arms)}. Training of one run, mean over runs; frozen stages that ran once for all epochs "
        "count with what that took. A source is trained once for all arms that start from it. Against: the arm of the "
        "same task that starts from random values and is most alike in data and epochs; times as a multiple of its.",
        "What starting from other weights costs and brings",
    )
    return Section("arm-costs", "Accuracy against time and size", _untaught(found), [table], figures)


def _untaught(found: pd.DataFrame) -> list[str]:
    """Sources that did not learn their own task: what starts from them shows nothing of transfer."""
    text = []
    for row in found[found["arm"].isin(set(found["start"]))].itertuples(index=False):
        if row.classes and row.accuracy < LEARNT / row.classes:
            start = [name for name, source in zip(found["arm"], found["start"], strict=True) if source == row.arm]
            text.append(
                f"{row.arm} did not learn its own task: {percent(row.accuracy)} of {row.classes:,} classes, where "
                f"guessing gives {percent(1 / row.classes)}. So {listed(start)} started from next to nothing, and say "
                "nothing about what transfer brings."
            )
    return text


def _used(row: Any, found: pd.DataFrame) -> bool:
    return row.arm in set(found["reference"]) | set(found["start"])


def _cost(row: Any, by_name: pd.DataFrame) -> list[object]:
    against = by_name.loc[row.reference] if row.reference else None
    whole = row.seconds + row.source_seconds
    frozen = f"{row.frozen}{', run once' if row.cached else ''}" if row.frozen else "none"
    return [
        row.arm,
        "random values" if row.start == "none" else row.start,
        frozen,
        f"{row.trainable:,.0f} of {row.parameters:,.0f}",
        percent(row.accuracy),
        row.n,
        duration(row.epoch_seconds),
        duration(row.seconds),
        duration(whole) if not missing(whole) else None,
        row.reference or None,
        None if against is None else signed(row.accuracy - against["accuracy"]),
        None if against is None else f"{row.seconds / against['seconds']:.2f} ×",
        None if against is None or missing(whole) else f"{whole / against['seconds']:.2f} ×",
    ]


def _counts(results: Results, arms: Sequence[ArmRuns]) -> str:
    """`9 confirm trials: 9 complete, 0 failed`: all runs of these arms, whatever became of them."""
    names = [arm.name for arm in arms]
    return Counts.of(results.confirm[results.confirm["arm"].isin(names)]).words("confirm")
