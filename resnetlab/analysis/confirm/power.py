"""Noise floor and power, before any claim: how far seeds alone spread, and what so many seeds can detect.

Accuracies and standard deviations are fractions, as in the tables; `delta` of a plan is percentage points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq

from resnetlab.analysis.confirm.estimands import estimands
from resnetlab.analysis.intervals import LEVEL, quantile
from resnetlab.analysis.results import Results
from resnetlab.analysis.trial_outcomes import full_budget
from resnetlab.planning.plan import Plan
from resnetlab.study.records import Phase

POWER = 0.80
MOST_SEEDS = 10_000
UPPER = 0.80  # of the pilot's spread, by which seeds are planned


@dataclass(frozen=True)
class NoiseFloor:
    """Seed-to-seed standard deviation, pooled over arms. sd, low, high: fractions, 95% interval by chi-squared, which
    takes the arms' variances as equal; `smallest` and `largest` are those of single arms, where they may not be."""

    sd: float
    low: float
    high: float
    df: int
    arms: int
    runs: int
    smallest: float
    largest: float

    @property
    def known(self) -> bool:
        return self.df > 0

    def between_two(self) -> float:
        """How far apart two runs of one config under different seeds are in 95% of cases, a fraction."""
        return float(quantile(self.df) * np.sqrt(2) * self.sd)


@dataclass(frozen=True)
class Blocks:
    """What shared seeds are worth. correlation: between arms within a seed block, with a 95% interval; gain: the
    variance of a paired difference is (1 - correlation) times that of an unpaired one. NaN where it cannot be told."""

    correlation: float
    low: float
    high: float
    blocks: int
    arms: int
    note: str = ""


@dataclass(frozen=True)
class Contrast:
    """The shape of a question in a balanced design: `arms` whose means count, and `spread`, the sum of their squared
    weights. With k seeds each its standard error is sd · sqrt(spread / k) on arms · (k - 1) degrees of freedom."""

    arms: int
    spread: float

    def standard_error(self, sd: float, seeds: int) -> float:
        return float(sd * np.sqrt(self.spread / seeds))

    def power(self, effect: float, sd: float, seeds: int, alpha: float = 0.05) -> float:
        """Chance that a two-sided t test at level `alpha` finds `effect` (same unit as `sd`); 0 for one seed.

        For a swap it takes the arms' variances as equal: the most that Welch's test can have.
        """
        df = self.arms * (seeds - 1)
        if df < 1:
            return 0.0
        shift, cut = effect / self.standard_error(sd, seeds), stats.t.ppf(1 - alpha / 2, df)
        # both tails as upper ones: scipy's nct.cdf is NaN far below its mean
        return float(stats.nct.sf(cut, df, shift) + stats.nct.sf(cut, df, -shift))

    def detectable(self, sd: float, seeds: int, alpha: float = 0.05, power: float = POWER) -> float:
        """Smallest effect found with chance `power`, in the unit of `sd`; infinite for one seed."""
        if seeds < 2:
            return float("inf")
        scale = self.standard_error(sd, seeds)
        most = 10 * stats.t.ppf(1 - alpha / 2, self.arms * (seeds - 1))  # in standard errors
        return scale * float(brentq(lambda shift: self.power(shift * scale, sd, seeds, alpha) - power, 0.0, most))

    def seeds_needed(self, effect: float, sd: float, alpha: float = 0.05, power: float = POWER) -> int | None:
        """Fewest seeds that find `effect` with chance `power`; None beyond MOST_SEEDS."""
        low, high = 1, 2
        while self.power(effect, sd, high, alpha) < power:
            if high >= MOST_SEEDS:
                return None
            low, high = high, min(2 * high, MOST_SEEDS)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.power(effect, sd, middle, alpha) < power else (low, middle)
        return high


SWAP = Contrast(arms=2, spread=2.0)


def main_effect(arms: int) -> Contrast:
    """A main effect of a two-level crossed design with so many arms (16 for 2^(5-1)): all arms count ± 2/arms."""
    return Contrast(arms=arms, spread=4.0 / arms)


def interaction(arms: int) -> Contrast:
    """A two-factor interaction of such a design, as a difference of differences: twice a main effect's error."""
    return Contrast(arms=arms, spread=16.0 / arms)


def noise_floor(values: np.ndarray) -> NoiseFloor:
    """From replicates: `values` (arms, seeds), fractions, NaN where a run gave none, as `ConfirmRuns.trained` has
    them (diverged and collapsed runs left out). Without two runs of any arm: sd NaN, df 0."""
    return pooled_sd([row[~np.isnan(row)] for row in values])


def seed_noise(results: Results, metric: str, epoch: int | None = None, without: str = "") -> NoiseFloor:
    """How far seeds alone spread `metric` over the plan's runs and the pilot; with `epoch` it is a column of the epochs
    table at that epoch. without: the trial that is judged by it. df 0 where no config was run twice."""
    runs = results.trials[results.trials["phase"] == Phase.PILOT]
    runs = pd.concat([full_budget(results.confirm), full_budget(runs)])
    runs = runs[runs["trial_id"] != without]
    if epoch is None:
        values = runs[["arm", metric]]
    else:
        rows = results.epochs.loc[results.epochs["epoch"] == epoch, ["trial_id", metric]]
        values = runs[["trial_id", "arm"]].merge(rows, on="trial_id")
    return pooled_sd([group[metric].dropna().to_numpy(float) for _, group in values.groupby("arm")])


def pooled_sd(groups: list[np.ndarray]) -> NoiseFloor:
    """The noise floor of `groups`, each the values of one config under different seeds, fractions."""
    groups = [np.asarray(group, dtype=float) for group in groups if len(group) > 1]
    df = sum(len(group) - 1 for group in groups)
    if df == 0:
        nan = float("nan")
        return NoiseFloor(nan, nan, nan, 0, 0, 0, nan, nan)
    sums = sum(((group - group.mean()) ** 2).sum() for group in groups)
    single = [float(group.std(ddof=1)) for group in groups]
    tail = (1 - LEVEL) / 2
    return NoiseFloor(
        sd=float(np.sqrt(sums / df)),
        low=float(np.sqrt(sums / stats.chi2.ppf(1 - tail, df))),
        high=float(np.sqrt(sums / stats.chi2.ppf(tail, df))),
        df=df,
        arms=len(groups),
        runs=sum(map(len, groups)),
        smallest=min(single),
        largest=max(single),
    )


def block_correlation(values: np.ndarray) -> Blocks:
    """How alike runs of one seed are across arms: `values` (arms, seeds), fractions, NaN where a run gave none.

    The intraclass correlation of two-way analysis of variance after taking out arm means, ICC(3,1) of Shrout & Fleiss
    (1979) with its F interval, over the blocks in which every arm has a value. Effects never assume it: their
    intervals are unpaired, which errs on the wide side where it is positive.
    """
    whole = values[:, ~np.isnan(values).any(0)]
    arms, blocks = whole.shape
    if arms < 2 or blocks < 2:
        nan, note = float("nan"), f"{blocks} of {values.shape[1]} seed blocks are whole; needs 2 arms and 2 blocks"
        return Blocks(nan, nan, nan, blocks, arms, note)
    centred = whole - whole.mean(1, keepdims=True)
    of_block = centred.mean(0)
    between = arms * (of_block**2).sum() / (blocks - 1)
    within = ((centred - of_block) ** 2).sum() / ((arms - 1) * (blocks - 1))
    if within <= 0:
        return Blocks(float("nan"), float("nan"), float("nan"), blocks, arms, "runs do not vary within blocks")
    ratio, dfs = between / within, (blocks - 1, (arms - 1) * (blocks - 1))
    ends = ratio / stats.f.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], *dfs)
    correlation, low, high = ((f - 1) / (f + arms - 1) for f in (ratio, *ends))
    return Blocks(float(correlation), float(low), float(high), blocks, arms)


def outlook(plan: Plan, sd: float, epochs: int) -> pd.DataFrame:
    """What `plan` can find at seed-to-seed `sd` (a fraction), one row a kind of question, plain and with Holm.

    Columns: estimand, holm, tests, seeds, power (chance to find an effect of delta), detectable (fraction, at 80%
    power), seeds_needed and epochs_needed (for delta at 80% power; the whole design's epochs at `epochs` a run, NaN
    where no number of seeds does). With Holm: the level that the smallest p of the family must pass.
    """
    asked = estimands(plan)
    weights = asked.weights(np.ones(len(plan.arms), dtype=bool))
    rows: list[dict[str, Any]] = []
    for kind in ("swap", "main", "interaction"):
        family = [w for w in weights[asked.of_kind(kind)] if not np.isnan(w).any()]
        if not family:
            continue
        hardest = max(family, key=lambda w: (w**2).sum())
        shape = Contrast(int((hardest != 0).sum()), float((hardest**2).sum()))
        for with_holm, alpha in ((False, plan.alpha), (True, plan.alpha / len(family))):
            needed = shape.seeds_needed(plan.least_effect, sd, alpha)
            rows.append(
                {
                    "estimand": asked.items[asked.of_kind(kind)[0]].estimand,
                    "holm": with_holm,
                    "tests": len(family),
                    "seeds": plan.seeds,
                    "power": shape.power(plan.least_effect, sd, plan.seeds, alpha),
                    "detectable": shape.detectable(sd, plan.seeds, alpha),
                    "seeds_needed": np.nan if needed is None else needed,
                    "epochs_needed": np.nan if needed is None else needed * len(plan.arms) * epochs,
                }
            )
    return pd.DataFrame(rows)


def enough_seeds(plan: Plan) -> int | None:
    """The seeds with which every comparison of a plan finds delta, at the 80% upper limit of the pilot's spread (Browne
    1995: planning by the spread itself falls short every other time); None where there is no pilot, or no number does.
    """
    if plan.pilot is None:
        return None
    df = plan.pilot["runs"] - 1
    sd = plan.pilot["sd"] / plan.metric.scale * float(np.sqrt(df / stats.chi2.ppf(1 - UPPER, df)))
    ahead = outlook(plan, sd, 1) if sd > 0 else pd.DataFrame()
    needed = ahead.loc[ahead["holm"], "seeds_needed"] if len(ahead) else pd.Series(dtype=float)
    return None if needed.empty or needed.isna().any() else int(needed.max())
