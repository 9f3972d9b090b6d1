"""The same images, arm against arm: two networks compared seed by seed, by what each got right alone."""

from __future__ import annotations

from resnetlab.analysis.evaluation import paired
from resnetlab.analysis.evaluation.test_predictions import ArmRuns, tasks
from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import interval, p_value, signed
from resnetlab.report.layout import Section, Table

MOST_PAIRS = 60  # rows of paired comparisons


def section(findings: Findings) -> Section | None:
    """The arms of the plan's swaps; None where no two of them were tested on the same images."""
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
    """Each arm with what it differs from in one thing: named arms with the first of their task, else with the
    design's centre."""
    plan, arms = findings.results.plan, findings.arms
    if plan is None:
        return []
    if plan.design == "arms":
        return [(arm, group[0]) for group in tasks(arms).values() for arm in group[1:]]
    swaps = {arm.name for arm in plan.arms if len(arm.changed) == 1}
    base = [arm for arm in arms if arm.name == plan.around]
    return [(arm, base[0]) for arm in arms if arm.name in swaps] if base else []
