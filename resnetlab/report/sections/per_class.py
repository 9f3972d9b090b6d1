"""Accuracy by class and arm, the best and the worst classes, then precision, recall, F1 and mistakes of an arm."""

from __future__ import annotations

from collections.abc import Sequence

from resnetlab.analysis.evaluation import test_predictions
from resnetlab.analysis.evaluation.class_results import class_results, confusions
from resnetlab.analysis.evaluation.test_predictions import LEAST_SUPPORT, ArmRuns, tasks
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import percent, percents
from resnetlab.report.layout import FOLDED, Section, Table

MOST = 40  # classes shown
MOST_ARMS = 12  # beside each other
NAMED = 20  # classes that a cell lists


def section(findings: Findings) -> Section | None:
    """None where no run was tested."""
    arms, named = findings.arms, bool(findings.named_arms)
    tables: list[Table] = []
    for task, group in tasks(arms).items():
        tables += _of_task(findings, task if len(tasks(arms)) > 1 else "", group, folded=not named)
    centre = [] if named else [arm for arm in arms if arm.name == findings.results.planned.around]
    for arm in arms if named else centre:
        tables = [*tables, *_of_arm(findings, arm, folded=True)] if named else [*_of_arm(findings, arm, False), *tables]
    if not tables:
        return None
    text = [
        "On the test split at the last epoch. The accuracy of a class is its recall, here the mean over an arm's runs."
    ]
    return Section("classes", "Per class", text, tables)


def _of_task(findings: Findings, task: str, arms: Sequence[ArmRuns], folded: bool) -> list[Table]:
    about, recall = test_predictions.recall_by_arm(findings.results.classes, arms[:MOST_ARMS])
    if recall.empty:
        return []
    of = f" ({task})" if task else ""
    counts = findings.arm_counts(arms)
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
    return [by_arm, *_best_and_worst(findings, arms, of, counts, folded)]


def _best_and_worst(findings: Findings, arms: Sequence[ArmRuns], of: str, counts: str, folded: bool) -> list[Table]:
    """Classes at 100%, and the ten worst, of those with enough test images to tell."""
    found = {arm.name: test_predictions.extremes(findings.results.classes, arm) for arm in arms}
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


def _of_arm(findings: Findings, arm: ArmRuns, folded: bool) -> list[Table]:
    found = class_results(findings.results.classes, arm.ids)
    if found.empty:
        return []
    counts = findings.arm_counts([arm])
    rows = [
        [r.name or f"class {r[0]}", r.recall, percents(r.low, r.high), percent(r.precision), percent(r.f1), r.support]
        for r in found.head(MOST).itertuples(index=False)
    ]
    left = f" The {MOST} worst of {len(found):,}; the others are in classes.parquet." if len(found) > MOST else ""
    whose = arm.name if findings.named_arms else arm.name.capitalize()
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
    wrong = confusions(findings.results.predictions, arm.ids, dict(zip(found["class"], found["name"], strict=True)))
    if len(wrong):
        columns = wrong[["label", "predicted", "count", "share"]].itertuples(index=False)
        rows = [[label, predicted, f"{count:,}", share] for label, predicted, count, share in columns]
        headings = ["Class", "Predicted as", "Times, all runs", "Share of the class"]
        tables.insert(
            0,
            Table(headings, ["text", "text", "number", "bar"], rows, f"{whose}, {counts}.",
                  f"{whose}: most frequent mistakes", folded)
        )  # fmt: skip
    return tables
