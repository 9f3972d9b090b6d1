"""What the explore stage alone would have people believe, beside what was confirmed. Hypotheses, never effects.

Early stopping decides who is compared: a level that starts slowly is stopped at few epochs and looks bad (last
reported), or leaves only its luckiest runs (finished only). The audit repairs that where enough trials are exempt:
they were chosen by a known chance, so they can be weighted back to what all trials would have reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from resnetlab.analysis.intervals import welch_interval
from resnetlab.study.records import Phase, Status
from resnetlab.wording import level_text

LAST, FINISHED, AUDIT = "last reported", "finished only", "audit, weighted"
COLUMNS = [
    "method", "factor", "level", "reference", "estimate", "low", "high",
    "n", "n_reference", "of", "of_reference", "note",
]  # fmt: skip


def naive(
    trials: pd.DataFrame,
    rungs: pd.DataFrame,
    levels: Mapping[str, Sequence[Any]],
    reference: Mapping[str, Any],
    column: str = "val_accuracy",
) -> pd.DataFrame:
    """Differences of mean `column`, what was searched for, between levels over explore trials, three ways; columns
    `COLUMNS`.

    trials, rungs: rows of those tables. levels: the levels of each compared factor; reference: the level that each is
    compared with. 95% Welch intervals as a reader would compute them: they ignore that
    trials were stopped and that the sampler chose. n: trials used, of: trials with the level. `audit, weighted` is
    unbiased where proposals are random; under TPE the other factors still differ between the levels.
    """
    explore = trials[trials["phase"].isin([Phase.EXPLORE, Phase.AUDIT])]
    weights = _weights(explore, rungs, column)
    rows = []
    for factor, found in levels.items():
        for level in found:
            if level == reference.get(factor):
                continue
            ours = _is(explore[factor], level), _is(explore[factor], reference.get(factor))
            for method, weight in weights.items():
                row = {
                    "method": method,
                    "factor": factor,
                    "level": level_text(level),
                    "reference": level_text(reference[factor]),
                }
                row |= _difference(explore[column], ours, weight)
                rows.append(row | {"note": _note(row)})
    return pd.DataFrame(rows, columns=COLUMNS)


def flips(found: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """`found` (from `naive`) beside the confirmed effects; adds columns confirmed, verdict, flips and where.

    A naive conclusion (interval without zero) flips where a confirmed effect has the other sign, or where confirming
    found the levels equivalent. Where an interaction put simple effects in the place of the average, confirmed is
    their mean, verdict `depends`, and where names the settings at which the conclusion is confirmed to be wrong.
    """
    single = effects[~effects["estimand"].str.startswith(("interaction", "not in the plan"))]
    reverse = {"level": single["reference"], "reference": single["level"], "estimate": -single["estimate"]}
    keys = ["factor", "level", "reference"]
    confirmed = {
        key: list(part.itertuples(index=False))
        for key, part in pd.concat([single, single.assign(**reverse)]).groupby(keys)
    }
    rows = [_against(row, confirmed.get((row.factor, row.level, row.reference), []))
            for row in found.itertuples(index=False)]  # fmt: skip
    beside = pd.DataFrame(rows, columns=["confirmed", "verdict", "flips", "where"], index=found.index)
    return pd.concat([found, beside.astype({"flips": bool})], axis=1)


def _against(row: Any, confirmed: list[Any]) -> tuple[float, str | None, bool, str]:
    if not confirmed:
        return np.nan, None, False, ""
    mean = float(np.mean([effect.estimate for effect in confirmed]))
    verdict = confirmed[0].verdict if len(confirmed) == 1 else "depends"
    if not (row.low > 0 or row.high < 0):
        return mean, verdict, False, ""
    wrong = [e for e in confirmed if e.verdict == "effect" and np.sign(e.estimate) != np.sign(row.estimate)]
    flips = bool(wrong) or all(effect.verdict == "equivalent" for effect in confirmed)
    return mean, verdict, flips, " and ".join(filter(None, (effect.name.partition(" where ")[2] for effect in wrong)))


def _weights(explore: pd.DataFrame, rungs: pd.DataFrame, column: str) -> dict[str, np.ndarray]:
    """How much each explore trial counts under each method, 0 where it does not.

    A trial that ASHA would have stopped reached the full budget only because it was exempt, which happened with
    chance 1 - stop_probability: it stands for 1 / (1 - stop_probability) trials (Horvitz & Thompson 1952).
    """
    full = (explore["status"] == Status.COMPLETE).to_numpy()
    exempt = explore["trial_id"].isin(rungs.loc[rungs["decision"] == "exempt", "trial_id"]).to_numpy()
    chance = 1 - explore["stop_probability"].fillna(0.0).to_numpy(dtype=float)
    has_value = explore[column].notna().to_numpy()
    audit = np.where(exempt, 1 / np.where(chance > 0, chance, np.nan), 1.0)
    return {
        LAST: has_value.astype(float),
        FINISHED: full.astype(float),
        AUDIT: np.where(full & (chance > 0), audit, 0.0),
    }


def _note(row: Mapping[str, Any]) -> str:
    """Which of the two levels has too few trials to say anything."""
    sides = (row["level"], row["n"], row["of"]), (row["reference"], row["n_reference"], row["of_reference"])
    reached = "have a value" if row["method"] == LAST else "reached the full budget"
    short = [f"{n} of {of} {reached} with {row['factor']} {level}" for level, n, of in sides if n < 2]
    return f"not estimable: {' and '.join(short)}" if short else ""


def _is(column: pd.Series, level: Any) -> np.ndarray:
    return np.array([value is not None and value == level for value in column], dtype=bool)


def _difference(values: pd.Series, sides: tuple[np.ndarray, np.ndarray], weight: np.ndarray) -> dict[str, Any]:
    """Weighted means (Hájek's ratio) and a Welch interval on Kish's effective numbers."""
    y = values.to_numpy(dtype=float)
    n = [int((side & (weight > 0)).sum()) for side in sides]
    of = [int(side.sum()) for side in sides]
    answer: dict[str, Any] = {"n": n[0], "n_reference": n[1], "of": of[0], "of_reference": of[1]}
    if min(n) < 2:
        return answer | {"estimate": np.nan, "low": np.nan, "high": np.nan}
    means, variances, freedoms = [], [], []
    for side in sides:
        w, x = weight[side & (weight > 0)], y[side & (weight > 0)]
        effective = w.sum() ** 2 / (w**2).sum()
        means.append((w * x).sum() / w.sum())
        variances.append((w**2 * (x - means[-1]) ** 2).sum() / w.sum() ** 2 * len(w) / (len(w) - 1))
        freedoms.append(max(effective - 1, 1.0))
    return answer | dict(zip(("estimate", "low", "high"), welch_interval(means, variances, freedoms), strict=True))
