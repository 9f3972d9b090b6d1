"""How far seeds alone spread, and what so many seeds could have found: a table beside the effects."""

from __future__ import annotations

from resnetlab.analysis.confirm import power
from resnetlab.analysis.results import Results
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import amount, correlation, in_unit, missing
from resnetlab.report.layout import Table
from resnetlab.wording import plural


def noise_and_power(findings: Findings) -> list[Table]:
    """One table; none where nothing is known of either."""
    known = [said.split(": ", 1) for said in _known(findings)]
    return [Table(["What", "How much"], ["name", "long"], known, title="Noise and power")] if known else []


def _known(findings: Findings) -> list[str]:
    """Sentences `what: how much`; of the pilot alone where no arm has two runs."""
    results, plan, runs = findings.results, findings.results.planned, findings.runs
    floor = power.noise_floor(runs.trained)
    if not floor.known or not floor.sd > 0:
        return _pilot(results)
    effect = findings.effect
    sd = [amount(value, effect) for value in (floor.sd, floor.low, floor.high)]
    text = [
        f"Noise floor: seeds alone spread by {in_unit(sd[0], effect)} (standard deviation over {floor.runs} runs of "
        f"{floor.arms} arms, 95% interval {sd[1]} … {sd[2]}).",
        *_pilot(results),
    ]
    shared = power.block_correlation(runs.trained)
    counts = "take it into account" if plan.variance == "blocks" else "assume none"
    if not missing(shared.correlation):
        text.append(
            "Pairing gain: runs of different arms on the same seed correlate "
            f"{correlation(shared.correlation)} (95% interval {correlation(shared.low)} … {correlation(shared.high)}, "
            f"{shared.blocks} seeds); the intervals here {counts}."
        )
    ahead = power.outlook(plan, floor.sd, results.study.search.epochs)
    for row in ahead[ahead["holm"]].itertuples(index=False):
        needs = "no number of seeds"
        if not missing(row.seeds_needed):
            needs = f"{row.seeds_needed:,.0f} seeds ({row.epochs_needed:,.0f} epochs in all)"
        least = amount(row.detectable, effect) if row.seeds > 1 else "no size"
        text.append(
            f"Power, {row.estimand}: {plural(row.seeds, 'seed')} {'finds' if row.seeds == 1 else 'find'} an effect of "
            f"{in_unit(least, effect)} in four of five studies, adjusted for {plural(row.tests, 'test')}; "
            f"{plan.delta_text} need {needs}."
        )
    return text


def _pilot(results: Results) -> list[str]:
    """What was known of it when the plan was made."""
    known = results.plan.pilot if results.plan else None
    if not known:
        return []
    effect = results.planned.metric.effect
    sd = in_unit(f"{known['sd']:.{effect.digits}f}", effect)
    return [f"Pilot: before the plan, {known['runs']:.0f} runs of the baseline alone spread by {sd}."]
