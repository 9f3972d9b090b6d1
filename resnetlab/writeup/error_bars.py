"""What the intervals of a study hold: for which images, by which method, with whose variance, over how many seeds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from resnetlab.analysis.confirm.effects_table import SHARED
from resnetlab.analysis.confirm.estimands import estimands
from resnetlab.planning.plan import Plan
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import listed, missing
from resnetlab.wording import plural

NEW, THESE, REDRAWN = "new images", "these images", "redrawn splits"  # as the column `verdict_on` has them
TASK = "runs"  # of a task of the study's own, of which nothing is known but its seeds
ON = {
    NEW: "on new images of the same kind",
    THESE: "on these test images",
    REDRAWN: "over splits drawn again",
    TASK: "over seeds",
}
HOLD = {
    NEW: "the spread between seeds and that between test images",
    THESE: "the spread between seeds, not that between test images",
    REDRAWN: "the spread between blocks, each of which has its own seed and its own split",
    TASK: "the spread between seeds alone",
}
SEEDS = "the seeds of initialisation, order and augmentation"
COVER = {
    NEW: f"{SEEDS} and the choice of the test images, not that of the training images",
    THESE: f"{SEEDS}, not the choice of the test images or of the training images",
    REDRAWN: f"{SEEDS} and how these data are split, as the split was drawn again with each block of seeds",
    TASK: "what the seeds of a run decide, and nothing else",
}


def of_effects(findings: Findings) -> list[str]:
    """What the interval of each row of the effects table is about; empty where it has none."""
    found = findings.effects
    if findings.results.study.experiment:
        return ["" if missing(error) else TASK for error in found["standard_error"]]
    return [
        "" if missing(error) else str(about)
        for about, error in zip(found["verdict_on"], found["standard_error"], strict=True)
    ]


def of_arms(findings: Findings) -> tuple[pd.DataFrame, list[str]]:
    """`Findings.performance` whose `low` and `high` are about what verdicts are about, where that is known, and what
    the interval of each row is about; empty where it has none."""
    found, plan = findings.performance.copy(), findings.results.planned
    if findings.results.study.experiment or plan.splits != "fixed":
        kind = TASK if findings.results.study.experiment else REDRAWN
        return found, ["" if missing(low) else kind for low in found["low"]]
    new = found["low_new"].notna() if plan.about == "new" else pd.Series(False, index=found.index)
    found["low"], found["high"] = found["low"].mask(new, found["low_new"]), found["high"].mask(new, found["high_new"])
    return found, [
        "" if missing(low) else NEW if is_new else THESE for low, is_new in zip(found["low"], new, strict=True)
    ]


def kinds(about: Sequence[str], findings: Findings) -> list[str]:
    """Those that there are, without repeats; what the plan asks for where there is no interval yet."""
    found = list(dict.fromkeys(filter(None, about)))
    if found:
        return found
    plan = findings.results.planned
    if findings.results.study.experiment:
        return [TASK]
    return [REDRAWN if plan.splits != "fixed" else NEW if plan.about == "new" else THESE]


def on(found: Sequence[str]) -> str:
    """`on new images of the same kind, which hold …`: to be put after the word for intervals."""
    if len(found) == 1:
        return f"{ON[found[0]]}, which hold {HOLD[found[0]]}"
    parts = " or ".join(f"{ON[kind]} ({HOLD[kind]})" for kind in found)
    return f"as each row says: {parts}"


def cover(findings: Findings) -> str:
    """A sentence about what the intervals of effects cover."""
    found = kinds(of_effects(findings), findings)
    if len(found) == 1:
        return f"They cover {COVER[found[0]]}."
    return (
        f"They cover, as the effects table says of each: {'; '.join(f'{ON[kind]}, {COVER[kind]}' for kind in found)}."
    )


def methods(findings: Findings) -> dict[str, list[str]]:
    """How effects were estimated, as the column `method` has it, with the families that each way has."""
    found: dict[str, list[str]] = {}
    for method in sorted({str(method) for method in findings.effects["method"].dropna()} - {"none"}):
        how, _, rest = method.partition(", Holm over ")
        family, *more = rest.split(", ")
        taken = [part for part in more if "spending" not in part]  # looks are told of elsewhere
        found.setdefault(", ".join([how, *taken]), []).append(family)
    return found


def variance(findings: Findings) -> str:
    """Whose variance the intervals of effects take."""
    plan = findings.results.planned
    own, shared = "each arm's own variance", "each arm's variance about what all arms of a seed share"
    if plan.variance == "arms":
        return own
    about = [SHARED in method for method in methods(findings)]
    if not any(about):
        return f"{own}, not that about what all arms of a seed share: {_why_own(plan)}"
    return shared if all(about) else f"{shared}, or its own at a look before which an arm had stopped or lost a run"


def _why_own(plan: Plan) -> str:
    """Why none of a plan's variances are those about blocks that it asks for."""
    if not estimands(plan).blocks:
        return "arms of several tasks share nothing by a seed"
    return "two arms do not tell what they share" if len(plan.arms) < 3 else "runs are missing"


def seeds(findings: Findings) -> str:
    """How many seeds an arm has a value of, and how many were planned where these are others: `10 seeds an arm of at
    most 16 planned`."""
    plan, counts = findings.results.planned, findings.performance["n"]
    low, high = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
    ran = f"{plural(high, 'seed')} an arm" if low == high else f"{low} to {plural(high, 'seed')} an arm"
    if plan.looks is not None:
        return f"{ran} of at most {plan.seeds} planned"
    return ran if low == high == plan.seeds else f"{ran} of {plan.seeds} planned"


def families(findings: Findings) -> str:
    """Within what Holm's method adjusts: `all main effects and all interactions, each by itself`."""
    found = dict.fromkeys(family for some in methods(findings).values() for family in some)
    ordered = sorted(found, key=lambda family: "primary" not in family)
    return listed(ordered) + (", each by itself" if len(ordered) > 1 else "")
