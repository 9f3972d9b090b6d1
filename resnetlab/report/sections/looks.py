"""What the looks at the confirm runs saw and decided: a table beside the effects."""

from __future__ import annotations

from resnetlab.analysis.confirm import looks_taken
from resnetlab.analysis.confirm.looks import OPEN
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import headed, interval, missing, p_value, signed
from resnetlab.report.layout import FOLDED, Table

MEANING = (
    "The repeated intervals of all looks hold together with 95% probability, so they hold wherever a comparison stops; "
    "the interval beside an effect elsewhere is the ordinary one at stopping. Where a look stopped for an effect its "
    "size is overstated on average, where it stopped for want of one understated: in simulations at a seed-to-seed "
    "standard deviation of 0.74 points by at most 0.1 points (results/reference/looks.md)."
)


def looks(findings: Findings) -> list[Table]:
    """One table, the last look at each comparison first; none where the plan takes no looks or has taken none."""
    taken = findings.looks
    if taken is None or not taken.looks:
        return []
    found = looks_taken.table(taken)
    metric = findings.effect
    order = {name: i for i, name in enumerate(dict.fromkeys(row["name"] for row in found))}
    rows = [
        [
            row["name"],
            f"{row['block']} of {row['blocks']}",
            "goes on" if row["decision"] == OPEN and row["arms"] else row["decision"],
            signed(row["estimate"], metric=metric),
            None if missing(row["low"]) else interval(row["low"], row["high"], metric),
            p_value(row["p"]),
            p_value(row["level"]),
        ]
        for row in sorted(found, key=lambda row: (-row["look"], order[row["name"]]))
    ]
    headings = ["Comparison", "Blocks", "Decision", headed("Estimate", metric), "Repeated 95% interval", "p", "Level"]
    first = taken.line()
    foot = (
        f"{first[0].upper()}{first[1:]}. Level: what p is held to at this look while no comparison of its family is an "
        f"effect. {MEANING}"
    )
    kinds = ["name", "number", "verdict", *["number"] * 4]
    return [Table(headings, kinds, rows, foot, "The looks", folded=len(rows) > FOLDED)]
