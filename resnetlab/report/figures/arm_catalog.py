"""Which figures show the arms: data computed from the tables, bound to a drawing, with caption and text alternative."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from resnetlab.analysis.evaluation import test_predictions
from resnetlab.analysis.evaluation.test_predictions import ArmRuns, tasks
from resnetlab.analysis.explore.curves import Counts, Curve, learning_curves, on_front
from resnetlab.analysis.results import Results
from resnetlab.experiment.metrics import METRICS
from resnetlab.report.figures import arm_figures
from resnetlab.report.figures.arm_figures import MARKS
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import duration, listed, percent
from resnetlab.report.rendering import Drawing, drawable, fonts_for

CONFUSIONS = tuple(f"confusion-{n}" for n in range(1, len(MARKS) + 1))
NAMES = ("arm-curves", "class-accuracy", *CONFUSIONS, "arm-seconds", "arm-parameters")
MATRIX = 100  # classes up to which a confusion matrix is drawn; beyond, the most frequent mistakes are a table
ROWS = 60  # classes up to which each has a row of marks
KEYED = 20  # names of classes that a caption says
PANELS = 16  # arms up to which each has a panel of curves


def arm_gallery(findings: Findings) -> list[Drawing]:
    """In the order of NAMES; for a plan of factors, the incumbent's confusion matrix alone."""
    results, arms = findings.results, findings.arms
    if not arms:
        return []
    if results.plan is None or results.plan.design != "arms":
        return _confusions(findings, [arm for arm in arms if arm.name == "incumbent"])
    shown = _few(arms)
    return [*_curves(results), *_class_accuracy(results, shown), *_confusions(findings, shown), *_costs(findings)]


def _few(arms: Sequence[ArmRuns]) -> list[ArmRuns]:
    """As many arms as there are marks: the first of each task, then those with the best validation accuracy."""
    firsts = [group[0].name for group in tasks(arms).values()]
    rest = sorted((arm for arm in arms if arm.name not in firsts), key=lambda arm: -arm.val_accuracy)
    chosen = {*firsts, *(arm.name for arm in rest[: max(0, len(MARKS) - len(firsts))])}
    return [arm for arm in arms if arm.name in chosen][: len(MARKS)]


def _curves(results: Results) -> list[Drawing]:
    names = [arm.name for arm in results.plan.arms][:PANELS] if results.plan else []
    groups: list[dict[str, list[Curve]]] = []
    for metric in ("val_accuracy", "train_accuracy"):
        curves = learning_curves(results.confirm, results.epochs, metric)
        found = {name: [curve for curve in curves if curve.arm == name] for name in names}
        groups.append({name: some for name, some in found.items() if some})
    validation, training = groups
    if not validation:
        return []
    counts = Counts.of(results.confirm).words("confirm")
    last = [f"{name} {percent(np.mean([c.values[-1] for c in some]))}" for name, some in validation.items()]
    alt = (
        f"Training and validation accuracy by epoch, a panel for each of {len(last)} arms. At the end: {listed(last)}."
    )
    caption = (
        "Training accuracy (on augmented images, as the steps saw them) and validation accuracy by epoch, a line for "
        "each run, a panel for each arm; the other arms' means are behind."
    )
    draw = partial(arm_figures.draw_arm_curves, validation=validation, training=training)
    one, two = (0.7 + 1.25 * math.ceil(len(validation) / beside) for beside in (2, 4))
    return [Drawing("arm-curves", (one, two), draw, counts, alt, caption, columns=2 if len(validation) > 4 else 1)]


def _class_accuracy(results: Results, shown: list[ArmRuns]) -> list[Drawing]:
    """Of the first task."""
    group = next(iter(tasks(shown).values()))
    about, recall = test_predictions.recall_by_arm(results.classes, group)
    if not 2 <= len(recall) <= ROWS:
        return []
    names = about["name"].tolist()
    worst = [f"{arm.name} {percent(recall[arm.name].iloc[0])}" for arm in group]
    alt = f"Test accuracy of {len(names)} classes by arm. The hardest class, {names[0]}: {listed(worst)}."
    caption = f"Test accuracy by class, worst first, mean over the runs of {listed([arm.name for arm in group])}."
    named = Named.of(names, about.index)
    draw = partial(arm_figures.draw_class_accuracy, names=named.names, recall=recall)
    height = 0.9 + 0.125 * len(names)
    counts = _counts(results, group)
    return [Drawing("class-accuracy", (height, height), draw, counts, alt, caption + named.key, fonts=named.fonts)]


def _confusions(findings: Findings, shown: list[ArmRuns]) -> list[Drawing]:
    results, predictions = findings.results, findings.predictions
    drawings = []
    for name, arm in zip(CONFUSIONS, shown, strict=False):
        rows = results.classes[(results.classes["trial_id"] == arm.ids[0]) & (results.classes["split"] == "test")]
        names = rows.sort_values("class")["name"].tolist()
        if not 2 <= len(names) <= MATRIX or not set(arm.ids) & set(predictions.labels):
            continue
        counts = test_predictions.confusion(predictions, arm, len(names))
        right = np.trace(counts) / counts.sum()
        alt = (
            f"Confusion matrix of {arm.name}, {len(names)} classes; {percent(right)} of the images are on the diagonal."
        )
        caption = (
            f"{arm.name}: what each class was taken for on the test split, all runs together"
            + (", percent of the class" if len(names) <= arm_figures.NUMBERED else "")
            + ". Cells darken with the root of the share, so that rare mistakes show."
        )
        named, foot = Named.of(names, range(len(names))), _counts(results, [arm])
        draw = partial(arm_figures.draw_confusion, counts=counts, names=named.names)
        drawings.append(Drawing(name, (3.7, 7.2), draw, foot, alt, caption + named.key, fonts=named.fonts))
    return drawings


def _costs(findings: Findings) -> list[Drawing]:
    found = findings.arm_costs.dropna(subset=["accuracy", "seconds"])
    if len(found) < 2:
        return []
    drawings = []
    for name, cost, what in (
        ("arm-seconds", "seconds", "training time of one run"),
        ("arm-parameters", "parameters", "number of parameters"),
    ):
        by_task = [on_front(part[cost], part["accuracy"]) for _, part in found.groupby("task", sort=False)]
        found = found.assign(front=pd.concat(by_task))
        said = [
            f"{row.arm} {percent(row.accuracy)} at "
            + (duration(row.seconds) if cost == "seconds" else f"{row.parameters:,.0f}")
            for row in found.itertuples(index=False)
        ]
        caption = f"Mean test accuracy of each arm, with its 95% interval over seeds, against the {what}."
        if found["front"].sum() > 1:
            caption += " The line is the Pareto front: no other arm costs less and is as accurate on average."
        if cost == "seconds" and (found["source_seconds"] > 0).any():
            caption += " A hollow mark adds the training of the run that the arm starts from."
        draw = partial(arm_figures.draw_arm_costs, costs=found, cost=cost)
        label = METRICS["train_seconds" if cost == "seconds" else cost].label.lower()
        alt = f"Test accuracy against {label}: {listed(said)}."
        height = max(2.7, 0.9 + 0.15 * len(found))
        drawings.append(
            Drawing(name, (height, max(3.4, height)), draw, _counts(findings.results, findings.arms), alt, caption)
        )
    return drawings


@dataclass(frozen=True)
class Named:
    """Names of classes as a figure can set them: `class 7` for one with a character that no font here has.

    key: which those are, as a sentence for the caption; fonts: families that the others need.
    """

    names: list[str]
    key: str
    fonts: tuple[str, ...]

    @classmethod
    def of(cls, names: Sequence[str], numbers: Sequence[int]) -> Named:
        fonts = fonts_for(names)
        shown, left = [], []
        for name, number in zip(names, numbers, strict=True):
            if drawable(name, fonts):
                shown.append(name)
            else:
                shown.append(f"class {number}")
                left.append(f"class {number} is {name}")
        more = f" and {len(left) - KEYED:,} more" if len(left) > KEYED else ""
        key = f" No font here has the characters of some names: {', '.join(left[:KEYED])}{more}." if left else ""
        return cls(shown, key, fonts)


def _counts(results: Results, arms: Sequence[ArmRuns]) -> str:
    names = [arm.name for arm in arms]
    return Counts.of(results.confirm[results.confirm["arm"].isin(names)]).words("confirm")
