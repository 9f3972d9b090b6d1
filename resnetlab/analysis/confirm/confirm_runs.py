"""The confirm runs of a plan laid out as arms × seeds, with a word for each run that gives no value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from resnetlab.analysis.confirm.collapse import Runs
from resnetlab.analysis.confirm.estimands import Estimands
from resnetlab.analysis.confirm.images import ImageScores, ImageTerm, from_predictions, together
from resnetlab.errors import BadData
from resnetlab.planning.plan import Layout, Plan
from resnetlab.study.records import Phase, Status

NEEDED = ("plan_hash", "design_row", "seed_block", "status", "epochs_run", "epochs_allowed")
OK, DIVERGED, UNFINISHED, UNNEEDED = "complete", "diverged", "not finished", "not asked for"


@dataclass(frozen=True)
class ConfirmRuns:
    """values: (arms, seeds) of the plan's metric, NaN where a run gave none; state: (arms, seeds) words; notes: for all
    effects.

    States: complete, diverged, out of memory, failed, not finished (running, interrupted or not begun), not asked for
    (a look had settled what it was planned for). A run that ended with no more than guessing is complete, and its value
    counts.
    """

    plan: Layout
    values: np.ndarray
    state: np.ndarray
    notes: tuple[str, ...] = ()
    images: tuple[ImageScores, ...] = ()  # what the runs scored on each test image, where that is known

    def image_term(self, asked: Estimands) -> ImageTerm:
        """The part of the choice of test images in the variance of each question, as of the runs that have a value."""
        there = ~np.isnan(self.values)
        return together(self.images, asked.weights(there.any(-1)), there)

    @property
    def untrained(self) -> np.ndarray:
        """Which runs collapsed or diverged: (arms, seeds)."""
        return np.asarray(collapsed(self.plan, self.values) | (self.state == DIVERGED))

    @property
    def trained(self) -> np.ndarray:
        """The values of the other runs: (arms, seeds), NaN where there is none."""
        return np.asarray(self.in_repeats.trained[0])

    @property
    def in_repeats(self) -> Runs:
        """The same as the only one of many repeats."""
        guessing = np.array(self.plan.levels_of_guessing)
        return Runs(self.values[None], self.untrained[None], guessing, self.plan.metric.sign)

    @property
    def finished(self) -> bool:
        return not (self.state == UNFINISHED).any()

    @property
    def whole(self) -> bool:
        """Whether every run that was asked for has given a value."""
        return bool(np.isin(self.state, (OK, UNNEEDED)).all())

    @classmethod
    def of(
        cls,
        plan: Plan,
        confirm: pd.DataFrame,
        predictions: pd.DataFrame | None = None,
        groups: Mapping[int, int] | None = None,
    ) -> ConfirmRuns:
        """Lay out the rows of `confirm` (columns of the trials table) that belong to `plan`.

        predictions: rows of that table, from which errors on new images are known. groups: what each test image, by
        number, belongs to, where images of one group (a person, a font) are alike.
        Rows of other plans and phases are not used, and counted in a note. BadData where rows contradict the plan:
        a row or block that it does not have, two results for one run, unequal budgets or other data.
        """
        needed = [*NEEDED, plan.metric.name]
        for column in needed:
            if column not in confirm.columns:
                raise BadData(f"confirm rows: no column {column!r} (needed: {', '.join(needed)})")
        if "phase" in confirm.columns:
            confirm = confirm[confirm["phase"] == Phase.CONFIRM]
        ours = confirm[confirm["plan_hash"] == plan.plan_hash]
        shape = len(plan.arms), plan.seeds
        values, state = np.full(shape, np.nan), np.full(shape, UNFINISHED, dtype=object)
        _check_alike(plan, ours)
        for row in ours[needed].to_dict("records"):
            place = _place(plan, row, shape)
            if state[place] != UNFINISHED and Status(row["status"]).ended:
                raise BadData(f"{_name(plan, place)}: two results for one run")
            state[place], values[place] = _read(plan, row, place, state[place])
        images: list[ImageScores] = []
        if predictions is not None and "trial_id" in ours.columns:
            kept = ours[ours["status"] == Status.COMPLETE]
            at = zip(kept["design_row"].astype(int), kept["seed_block"].astype(int), strict=True)
            places = dict(zip(kept["trial_id"], at, strict=True))
            images = from_predictions(places, shape, predictions, plan.metric.name, groups)
        return cls(plan, values, state, _others(plan, confirm, ours), tuple(images))

    def only(self, needed: np.ndarray) -> ConfirmRuns:
        """Without the runs that are not needed. needed: (arms, blocks) truth values."""
        state = np.where(needed, self.state, UNNEEDED)
        return replace(self, values=np.where(needed, self.values, np.nan), state=state)

    def planned(self, rows: np.ndarray) -> int:
        """How many runs of these arms were asked for, or may yet be."""
        return int((self.state[rows] != UNNEEDED).sum())

    def describe(self, rows: np.ndarray, most: int = 3) -> str:
        """Which runs of these arms gave no value or learnt nothing, `most` of each by name: `2 of 6 runs give no value
        and are not counted in n: kernel=5 diverged (block 0), …`."""
        total = self.planned(rows)
        lost = [(r, b) for r in rows for b in range(self.plan.seeds) if self.state[r, b] not in (OK, UNNEEDED)]
        low = collapsed(self.plan, self.values)
        stuck = [(r, b) for r in rows for b in range(self.plan.seeds) if low[r, b]]
        said = []
        if lost:
            named = self._named([(r, b, f" {self.state[r, b]}") for r, b in lost], most)
            said.append(f"{len(lost)} of {total} runs give no value and are not counted in n: {named}")
        if stuck:
            named = self._named([(r, b, "") for r, b in stuck], most)
            said.append(f"{len(stuck)} of {total} runs collapsed (no better than guessing): {named}")
        return "; ".join(said)

    def _named(self, found: list[tuple[int, int, str]], most: int) -> str:
        named = [f"{self.plan.arms[row].name}{word} (block {block})" for row, block, word in found[:most]]
        return ", ".join([*named, f"{len(found) - most} more"] if len(found) > most else named)


def collapsed(plan: Layout, values: np.ndarray) -> np.ndarray:
    """Which of `values` (..., arms, seeds) are no better than guessing, as the plan knows it; NaN values are not."""
    least = plan.metric.sign * np.array(plan.collapsed_up_to)[:, None]
    return np.asarray(plan.metric.sign * values <= least)


def _place(plan: Plan, row: dict[str, Any], shape: tuple[int, int]) -> tuple[int, int]:
    try:
        place = int(row["design_row"]), int(row["seed_block"])
    except (TypeError, ValueError):
        place = -1, -1
    if not (0 <= place[0] < shape[0] and 0 <= place[1] < shape[1]):
        raise BadData(
            f"plan {plan.plan_hash}: confirm row with design_row={row['design_row']}, seed_block={row['seed_block']} "
            f"(allowed: 0 to {shape[0] - 1}, 0 to {shape[1] - 1}); runs beyond the planned seeds need a new plan"
        )
    return place


def _read(plan: Plan, row: dict[str, Any], place: tuple[int, int], before: str) -> tuple[str, float]:
    status = Status(row["status"])
    if not status.ended:
        return before, np.nan
    if status is not Status.COMPLETE:
        return status.replace("_", " "), np.nan
    if row["epochs_run"] != row["epochs_allowed"]:
        raise BadData(
            f"{_name(plan, place)}: complete after {row['epochs_run']} of {row['epochs_allowed']} epochs; "
            "effects are computed at the full budget only"
        )
    value = row[plan.metric.name]
    if value is None or not np.isfinite(value):
        raise BadData(f"{_name(plan, place)}: complete, but without {plan.metric.name}")
    return OK, float(value)


def _name(plan: Plan, place: tuple[int, int]) -> str:
    return f"plan {plan.plan_hash}, arm {plan.arms[place[0]].name}, block {place[1]}"


def _others(plan: Plan, confirm: pd.DataFrame, ours: pd.DataFrame) -> tuple[str, ...]:
    notes = []
    other = confirm.loc[confirm["plan_hash"] != plan.plan_hash, "plan_hash"]
    if not other.empty:
        hashes = ", ".join(sorted(map(str, other.unique())))
        rest = "" if len(ours) else ", and of this plan there are none"
        notes.append(
            f"{len(other)} confirm runs of another plan ({hashes}) are not used: each has its own evidence{rest}"
        )
    revisions = ours["git_revision"].dropna().unique() if "git_revision" in ours.columns else []
    if len(revisions) > 1:
        notes.append(f"the runs are of {len(revisions)} code revisions ({', '.join(sorted(map(str, revisions)))})")
    return tuple(notes)


def _check_alike(plan: Plan, ours: pd.DataFrame) -> None:
    if plan.design == "arms":
        return  # named arms have budgets and datasets of their own, by the study's hash
    budgets = sorted({int(budget) for budget in ours["epochs_allowed"].dropna()})
    if len(budgets) > 1:
        raise BadData(f"plan {plan.plan_hash}: confirm rows of unequal budgets ({budgets} epochs)")
    data = set(ours["data_hash"].dropna()) if "data_hash" in ours.columns else set()
    if data - {plan.data_hash}:
        raise BadData(f"plan {plan.plan_hash}: confirm rows of other data ({sorted(data)}, planned: {plan.data_hash})")
