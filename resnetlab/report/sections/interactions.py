"""Whether what one factor does depends on another; a sentence where the design cannot tell."""

from __future__ import annotations

from resnetlab.analysis.confirm.estimands import INTERACTION
from resnetlab.report.findings import Findings
from resnetlab.report.layout import Section
from resnetlab.report.sections.effects import comparisons


def section(findings: Findings) -> Section | None:
    """None without a plan that compares two factors."""
    plan, found = findings.results.plan, findings.effects
    if plan is None or plan.design == "arms" or len(plan.compared) < 2:
        return None
    here = found["estimand"] == INTERACTION
    if not here.any():
        why = f"Not estimated: the design ({plan.design}) has no arms that would show interactions."
        return Section("interactions", "Interactions", [why])
    sure = int((found[here]["verdict"] == "effect").sum())
    text = [
        "An interaction is a difference of differences: how much the effect of one factor changes with the level of "
        f"the other. {sure or 'None'} of {int(here.sum())} {'is' if sure < 2 else 'are'} confirmed."
    ]
    if not sure:
        text[0] += " That is not evidence of none: their intervals are twice as wide as those of main effects."
    tables = comparisons(findings, here)
    return Section("interactions", "Interactions", text, tables, ["interactions"])
