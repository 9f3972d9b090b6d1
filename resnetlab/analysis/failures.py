"""Trials that failed, by cause: how many, an example, where its log is, and what to type once the cause is mended."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from resnetlab.analysis.confirm.effects_table import NEEDS_ONE
from resnetlab.analysis.confirm.looks_taken import runs_of
from resnetlab.analysis.results import Results
from resnetlab.commands import command, continued
from resnetlab.storage.layout import ERRORS
from resnetlab.study.records import Phase, Status

VARIES = re.compile(r"\b[0-9a-f]{12,}\b|\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b")  # from trial to trial of one cause
LONG = 300  # characters of a cause in one line; its log has all of it
PHASE = re.compile(r" --phase[ =]\w+| --retry-failed| --dry-run")


@dataclass(frozen=True)
class Failure:
    """Trials that ended alike. example: the trial_id of one; cause: its own, in words; log: the file with its log or
    traceback, in the results folder, `` where there is none; remedy: a command, `` where nothing runs them again."""

    status: str
    trials: int
    example: str
    number: int
    cause: str
    log: str
    remedy: str

    @property
    def in_a_line(self) -> str:
        """The cause, however many lines it has."""
        text = " ".join(self.cause.split())
        return text if len(text) <= LONG else f"{text[: LONG - 1]}…"


def failures(results: Results) -> list[Failure]:
    """What failed or ran out of memory; of the runs that conclusions rest on also what diverged, which is a result of
    its settings and not run again. The most frequent first."""
    trials = results.trials[(results.trials["phase"] != Phase.CONFIRM) | _ours(results)]
    lost = trials["status"].isin([Status.FAILED, Status.OUT_OF_MEMORY])
    lost |= (trials["status"] == Status.DIVERGED) & trials["phase"].isin([Phase.CONFIRM, Phase.PILOT])
    found = trials[lost].sort_values("number", kind="stable")
    if found.empty:
        return []
    causes = found["reason"].fillna("no cause is recorded").astype(str)
    alike = [found["status"], causes.map(lambda cause: VARIES.sub("#", _head(cause))), _again(results, found)]
    logs = set(results.folder.names(ERRORS))
    groups = []
    for (status, _, again), group in found.groupby(alike, sort=False):
        first = group.iloc[0]
        cause, log = causes[first.name], f"{first['trial_id']}.txt"
        groups.append(
            Failure(
                status=str(status),
                trials=len(group),
                example=str(first["trial_id"]),
                number=int(first["number"]),
                cause=cause,
                log=f"{ERRORS}/{log}" if log in logs else "",
                remedy=remedy(results, "--weights" in cause) if again else "",
            )
        )
    return sorted(groups, key=lambda failure: -failure.trials)


def _ours(results: Results) -> pd.Series:
    return results.trials["plan_hash"] == (results.plan.plan_hash if results.plan else "")


def _head(cause: str) -> str:
    """What a cause says before it says more: trials of one cause may differ in the rest."""
    return cause.partition("; ")[0]


def _again(results: Results, trials: pd.DataFrame) -> pd.Series:
    """Which of them `--retry-failed` runs again: what was run before the plan has no say once there is one."""
    counts = trials["status"] != Status.DIVERGED
    return counts if results.plan is None else counts & (trials["phase"] == Phase.CONFIRM)


def remedy(results: Results, weights: bool = False) -> str:
    """The command that runs failed trials of this folder again."""
    given = PHASE.sub("", str(results.sweep.get("command") or "")) or f"{command('sweep')} …"
    file = " --weights FILE" if weights and "--weights" not in given else ""
    return continued(f"{given}{file} --retry-failed", results.folder.path, results.sweep.get("directory"))


def planned_runs(results: Results) -> int:
    """Runs that the plan asks for; where it looks at them, those that were asked for or may yet be."""
    plan = results.plan
    if plan is None:
        return 0
    if plan.looks is None:
        return len(plan.arms) * plan.seeds
    return runs_of(plan, results.confirm).planned(np.arange(len(plan.arms)))


def to_go(results: Results) -> int:
    """Runs of the plan that have not ended."""
    if results.plan is None:
        return 0
    ended = results.confirm["status"].map(lambda status: Status(status).ended).astype(bool)
    return planned_runs(results) - int(ended.sum())


def unmade(results: Results, effects: pd.DataFrame) -> list[str]:
    """The planned comparisons, by name, that have no estimate because runs that they need ended without a result."""
    if results.plan is None or effects.empty or to_go(results):
        return []
    wanting = effects["note"].fillna("").str.contains(NEEDS_ONE, regex=False)
    return [str(name) for name in effects.loc[wanting & effects["estimate"].isna(), "name"]]
