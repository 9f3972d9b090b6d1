"""The looks that a plan has taken at its confirm runs, from the runs on record: what each saw and decided, what it asks
for next, and what is concluded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from resnetlab.analysis.confirm import spending
from resnetlab.analysis.confirm.confirm_runs import UNFINISHED, UNNEEDED, ConfirmRuns
from resnetlab.analysis.confirm.contrasts import CellMeans, Estimates
from resnetlab.analysis.confirm.effects import Analysis, contrasts, sides_of
from resnetlab.analysis.confirm.estimands import Estimands, estimands
from resnetlab.analysis.confirm.looks import EFFECT, EQUIVALENT, FUTILE, OPEN, Course, Look, Rule
from resnetlab.planning.plan import Plan
from resnetlab.study.records import Phase
from resnetlab.wording import plural

# What is said of a comparison: settled, or why not.
WORDS = {EFFECT: "an effect", EQUIVALENT: "equivalent", FUTILE: "not resolvable", OPEN: "open"}


@dataclass(frozen=True)
class Taken:
    """The looks at one plan's runs. needed: (arms, blocks), the runs that were asked for as yet; possible: those and
    the ones that may yet be; block: of the last look, 0 before the first; stopped: whether no more is asked for."""

    runs: ConfirmRuns
    course: Course
    looks: Sequence[Look]

    @property
    def needed(self) -> np.ndarray:
        return np.asarray(self.course.needed[0])

    @property
    def possible(self) -> np.ndarray:
        later = np.arange(self.needed.shape[1]) < self.course.blocks[0]
        return np.asarray(self.needed | (self.course.active[0][:, None] & later & (not self.stopped)))

    @property
    def block(self) -> int:
        return self.looks[-1].block if self.looks else 0

    @property
    def stopped(self) -> bool:
        return bool(self.course.stopped[0])

    def by_decision(self) -> Mapping[str, list[str]]:
        """The tested comparisons, by what is decided of them so far."""
        found: dict[str, list[str]] = {EFFECT: [], EQUIVALENT: [], FUTILE: [], OPEN: []}
        for i, item in enumerate(self.course.rule.asked.items):
            if item.kind in ("swap", "main"):
                found[str(self.course.decision[0, i])].append(item.name)
        return found

    def line(self) -> str:
        """`looked after 4 of 16 blocks: kernel: 5 - 3 is settled (an effect); open: blocks: 3 - 2`."""
        blocks = int(self.course.blocks[0])
        if not self.looks:
            return f"no look yet: the first comes after {spending.FIRST} of {blocks} blocks"
        found = self.by_decision()
        settled = [f"{name} ({WORDS[kind]})" for kind in (EFFECT, EQUIVALENT, FUTILE) for name in found[kind]]
        parts = [f"settled: {', '.join(settled) or 'nothing'}"]
        parts += [f"open: {', '.join(found[OPEN])}"] if found[OPEN] else []
        if self.stopped:
            saved = self.needed.size - int(self.needed.sum())
            parts.append(
                f"stopped, {plural(saved, 'run')} of {self.needed.size} saved" if saved else "all runs were run"
            )
        else:
            on = [arm.name for arm, active in zip(self.runs.plan.arms, self.course.active[0], strict=True) if active]
            some = len(on) < len(self.runs.plan.arms)
            parts.append(f"goes on: {', '.join(on)}" if some and len(on) <= 8 else f"goes on: {plural(len(on), 'arm')}")
        return f"looked after {self.block} of {blocks} blocks: {'; '.join(parts)}"


def taken(runs: ConfirmRuns) -> Taken:
    """All looks that are due, taken again from the runs on record: the same runs give the same decisions."""
    asked = estimands(runs.plan)
    course = Course(Rule.of(runs.plan, asked, sides_of(runs.plan, asked)), runs.in_repeats)
    ended = ~np.isin(runs.state, (UNFINISHED, UNNEEDED))
    return Taken(runs, course, list(course.follow(ended[None])))


def runs_of(
    plan: Plan, confirm: pd.DataFrame, predictions: pd.DataFrame | None = None, groups: Mapping[int, int] | None = None
) -> ConfirmRuns:
    """`ConfirmRuns.of`, without the runs for which no look has asked or may yet ask."""
    runs = ConfirmRuns.of(plan, confirm, predictions, groups)
    return runs if plan.looks is None else runs.only(taken(runs).possible)


def of_rows(plan: Plan, rows: Iterable[Mapping[str, Any]]) -> Taken:
    """The looks at the rows of the trials table that belong to `plan`."""
    ours = [dict(row) for row in rows if row["phase"] == Phase.CONFIRM and row["plan_hash"] == plan.plan_hash]
    names = ["phase", "plan_hash", "design_row", "seed_block", "status", "epochs_run", "epochs_allowed", "data_hash"]
    return taken(ConfirmRuns.of(plan, pd.DataFrame(ours, columns=[*names, plan.metric.name])))


def analysis(runs: ConfirmRuns) -> Analysis:
    """What is concluded from the looks."""
    return taken(runs).course.analysis()


def table(found: Taken) -> list[dict[str, Any]]:
    """A row for each look and comparison; columns of `schema("looks")`."""
    course, plan, rows = found.course, found.runs.plan, []
    for number, look in enumerate(found.looks, 1):
        low, high = _repeated(course.rule, look)
        for i, item in enumerate(course.rule.asked.items):
            if item.kind == "simple" or not look.looked[0, i]:
                continue
            level = look.level[0, i]
            rows.append(
                {
                    "plan_hash": plan.plan_hash,
                    "look": number,
                    "name": item.name,
                    "block": look.block,
                    "blocks": int(look.blocks[0]),
                    "primary": bool(course.rule.primary[i]),
                    "estimate": look.estimates.estimate[0, i],
                    "standard_error": look.estimates.standard_error[0, i],
                    "df": look.estimates.df[0, i],
                    "low": low[i],
                    "high": high[i],
                    "p": look.estimates.p[0, i],
                    "level": level,
                    "decision": str(look.decision[0, i]),
                    "arms": int(look.active[0].sum()),
                }
            )
    return rows


def _repeated(rule: Rule, look: Look) -> tuple[np.ndarray, np.ndarray]:
    level = rule.level(rule.alpha, look.block, int(look.blocks[0]))
    low, high = look.estimates.interval(1 - level)
    return low[0], high[0]


def said(found: Taken) -> list[str]:
    """For each question what a reader must know of the looks that it rests on."""
    course, metric = found.course, found.runs.plan.metric
    low, high = (end[0] for end in course.repeated())
    least, most = (end[0] for end in course.estimates.interval())
    words = []
    for i, block in enumerate(course.block[0]):
        if not block or np.isnan(low[i]):
            words.append("")
            continue
        decision = str(course.decision[0, i])
        ends = f"{metric.signed(low[i])} … {metric.signed(high[i])} {metric.effect.unit}".rstrip()
        what = f"{WORDS[decision]} at the look after block {block} of {found.runs.plan.seeds}"
        words.append(f"{what}; interval at stopping; repeated interval, which holds over all looks: {ends}")
        if low[i] <= 0 <= high[i] and not least[i] <= 0 <= most[i]:
            words[-1] += ", so that the interval at stopping excludes 0 only because many looks are not counted in it"
    return words


@lru_cache(maxsize=64)
def _exact(alpha: float, family: int) -> tuple[float, ...]:
    """Levels to which one-sided p-values, doubled, are held."""
    return tuple(2 * alpha / m for m in range(max(family, 1), 0, -1))


def least_p(
    found: Taken,
    asked: Estimands,
    values: np.ndarray,
    p_of: Callable[[Estimates], tuple[np.ndarray, np.ndarray, np.ndarray]],
    family: int,
) -> tuple[Estimates, np.ndarray, np.ndarray]:
    """The estimates of `asked` at the last look of each, and the sequential p of two one-sided claims about each.

    values: (repeats, arms, blocks). p_of: p of the two claims, and which of the second are the smaller of two one-sided
    p-values, doubled. The looks are those that were taken, whatever `asked` would have decided.
    """
    plan, needed, least_alpha = found.runs.plan, found.needed, found.course.rule.least_alpha
    used = np.nan_to_num(asked.weights(np.ones(len(plan.arms), dtype=bool))) != 0
    shape = len(values), len(asked.items)
    kept = {name: np.full(shape, np.nan) for name in ("estimate", "standard_error", "df")}
    least = np.full((2, *shape), np.nan)
    for look in found.looks:
        on = needed[:, look.block - 1]
        estimates = contrasts(
            asked, CellMeans.of(np.where(on[:, None], values[:, :, : look.block], np.nan), asked.blocks)
        )
        looked = (on | ~used).all(-1)
        for name, before in kept.items():
            before[:, looked] = getattr(estimates, name)[:, looked]
        one, other, doubled = p_of(estimates)
        blocks, exact = int(look.blocks[0]), _exact(found.course.rule.looks.share * plan.alpha, family)
        single = [least_alpha(np.minimum(2 * p, 1.0), look.block, blocks, exact) / 2 for p in (one, other)]
        single[1] = np.where(doubled, least_alpha(other, look.block, blocks, exact), single[1])
        for way in range(2):
            least[way] = np.where(looked, np.fmin(least[way], single[way]), least[way])
    return Estimates(**kept), least[0], least[1]
