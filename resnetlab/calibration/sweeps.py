"""The usual analyses of an explored sweep, and the confirmed one, on simulated sweeps with a slow starter.

Each sweep runs through the real state machine, search, ASHA, store and plan. `make_sweep(study, store)` is the state
machine's constructor, given by the caller, because the analysis wing does not import the training wing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.effects import analyse
from resnetlab.analysis.confirm.estimands import Estimand, estimands
from resnetlab.analysis.explore.naive import naive
from resnetlab.calibration.error_rates import ALTERNATIVES, DELTA, EPOCHS, INCUMBENT, PLANTED, true_effects
from resnetlab.calibration.simulator import Memory, Truth, drive
from resnetlab.planning.plan import Plan
from resnetlab.study import Study, build_study
from resnetlab.study.records import Phase, Status
from resnetlab.wording import level_text

MakeSweep = Callable[[Study, Memory], Any]

# Kernel 5 is behind until epoch 10 of 15 on average, and ends 0.5 points better; head_depth 3 starts slowly and ends
# level. Each optimizer has its own best learning rate.
ADVERSE = replace(
    PLANTED,
    lag={"kernel": {5: 3.74}, "head_depth": {3: 4.0}},
    tuned=(({"optimizer": "sgd"}, "lr", 0.1, 3.0), ({"optimizer": "adamw"}, "lr", 0.003, 3.0)),
)
LEVELS: Mapping[str, list[Any]] = {**ALTERNATIVES, "head_depth": [2, 3]}
NULLS = {("head_depth", "2"): "pure", ("head_depth", "3"): "slow"}


@dataclass(frozen=True)
class Way:
    """One way to spend about 750 epochs: how to explore, and whether to confirm."""

    sampler: str
    trials: int
    audit: float = 0.0
    confirm: bool = False


WAYS = (
    Way("random", 265),
    Way("tpe", 135),
    Way("random", 130, audit=0.2),
    Way("tpe", 62, confirm=True),
)


def measure_sweeps(make_sweep: MakeSweep, n: int, seed: int = 0, truth: Truth = ADVERSE) -> list[dict[str, Any]]:
    """Error rates of each method over `n` simulated sweeps of each way; one row a way and method."""
    rows = []
    for way in WAYS:
        found = [one_sweep(make_sweep, way, truth, seed * 1_000_000 + number) for number in range(n)]
        answers = pd.concat([answer.assign(sweep=i) for i, (answer, _) in enumerate(found)], ignore_index=True)
        epochs = float(np.mean([spent for _, spent in found]))
        for method, part in answers.groupby("method", sort=False):
            rows.append({"sampler": way.sampler, "audit": way.audit, "method": method, "sweeps": n,
                         "epochs": round(epochs)} | rates(part))  # fmt: skip
    return rows


def one_sweep(make_sweep: MakeSweep, way: Way, truth: Truth, seed: int) -> tuple[pd.DataFrame, int]:
    """Run one sweep and ask it about every level: columns method, factor, level, estimate, low, high, claimed, truth,
    null (pure, slow or empty); and the epochs spent."""
    study = simulated_study(way, seed)
    store = Memory()
    sweep = make_sweep(study, store)
    spent = drive(sweep, truth)
    trials, rungs = pd.DataFrame(list(store.trials.values())), store.read("rungs").to_pandas()
    if way.confirm:
        return _confirmed(sweep.plan, trials[trials["phase"] == Phase.CONFIRM], truth), spent
    return _naive(trials, rungs, truth, way), spent


def simulated_study(way: Way, seed: int) -> Study:
    levels = {name: {"levels": [INCUMBENT[name], *found]} for name, found in LEVELS.items()}
    lr = [
        {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 1.0, "log": True},
        {"when": {"optimizer": "adamw"}, "low": 3e-4, "high": 3e-2, "log": True},
    ]
    return build_study(
        {
            "name": "simulated",
            "dataset": {"name": "glyphs"},
            "baseline": {name: INCUMBENT[name] for name in LEVELS} | {"lr": 0.1},
            "factors": levels | {"lr": lr},
            "search": {"sampler": way.sampler, "trials": way.trials, "epochs": EPOCHS, "audit": way.audit},
            "confirm": {"design": "fractional" if way.confirm else "none", "seeds": 2, "delta": DELTA},
            "seed": seed,
        },
        "simulated",
    )


def marginal_truth(truth: Truth) -> dict[tuple[str, str], float]:
    """Each level's effect averaged over all settings of the other factors, tuned learning rate: fractions."""
    settings = [{"blocks": blocks, "kernel": kernel} for blocks in (3, 4) for kernel in (3, 5)]
    found = {}
    for name, levels in LEVELS.items():
        for level in levels:
            with_level = np.mean([truth.mean(setting | {name: level}) for setting in settings])
            without = np.mean([truth.mean(setting | {name: INCUMBENT[name]}) for setting in settings])
            found[name, level_text(level)] = float(with_level - without) / 100
    return found


def _naive(trials: pd.DataFrame, rungs: pd.DataFrame, truth: Truth, way: Way) -> pd.DataFrame:
    levels = {name: [INCUMBENT[name], *found] for name, found in LEVELS.items()}
    found = naive(trials, rungs, levels, {name: INCUMBENT[name] for name in LEVELS})
    if not way.audit:
        found = found[~found["method"].str.startswith("audit")]
    known = marginal_truth(truth)
    keys = list(zip(found["factor"], found["level"], strict=True))
    full = trials["status"] == Status.COMPLETE
    return found.assign(
        truth=[known[key] for key in keys],
        null=[NULLS.get(key, "") for key in keys],
        claimed=(found["low"] > 0) | (found["high"] < 0),
        no_kernel_5=not (full & (trials["kernel"] == 5)).any(),
    )


def _confirmed(plan: Plan, confirm: pd.DataFrame, truth: Truth) -> pd.DataFrame:
    """Main effects with unadjusted claims, as for the naive methods, so that they can be compared."""
    asked = estimands(plan)
    which = asked.of_kind("main")
    found = analyse(asked, ConfirmRuns.of(plan, confirm).values[None], plan.alpha, plan.least_effect)
    low, high = found.estimates.interval()
    items = [asked.items[i] for i in which]
    right = true_effects(asked, plan, truth)[which]
    table = pd.DataFrame(
        {
            "factor": [item.factor for item in items],
            "level": [item.level for item in items],
            "estimate": found.estimates.estimate[0, which],
            "low": low[0, which],
            "high": high[0, which],
            "truth": right,
            "null": [_null(item) if abs(true) < 1e-9 else "" for item, true in zip(items, right, strict=True)],
        }
    )
    claimed = (table["low"] > 0) | (table["high"] < 0)
    return table.assign(method="confirmed: 2^(5-1) crossed design, k = 2", claimed=claimed)


def _null(item: Estimand) -> str:
    return "slow" if item.factor == "head_depth" and "3" in (item.level, item.reference) else "pure"


def rates(part: pd.DataFrame) -> dict[str, Any]:
    """What a method's answers were worth; shares are fractions, bias and rmse percentage points."""
    known = part[part["estimate"].notna() & part["low"].notna()]
    kernel = known[known["factor"] == "kernel"]
    wrong = np.sign(known["estimate"]) != np.sign(known["truth"])
    real, big = known["null"] == "", known["truth"].abs() >= DELTA / 100 - 1e-9
    planned = part["truth"].abs() >= DELTA / 100 - 1e-9
    error = known["estimate"] - known["truth"]
    return {
        "estimable": len(known) / len(part),
        "kernel_estimable": float(len(kernel) / max((part["factor"] == "kernel").sum(), 1)),
        "kernel_bias": _mean(100 * (kernel["estimate"] - kernel["truth"])),
        "rmse": float(100 * np.sqrt((error**2).mean())) if len(error) else None,
        "coverage": _mean((known["low"] <= known["truth"]) & (known["truth"] <= known["high"])),
        "false_positive_pure": _mean(known["claimed"][known["null"] == "pure"]),
        "false_positive_slow": _mean(known["claimed"][known["null"] == "slow"]),
        "wrong_sign": _mean((known["claimed"] & wrong)[real]),
        "kernel_wrong_sign_claimed": _mean((known["claimed"] & wrong)[known["factor"] == "kernel"]),
        "kernel_wrong_sign": _mean(wrong[known["factor"] == "kernel"]),
        "power": float(known["claimed"][big & ~wrong].sum() / max(planned.sum(), 1)),
        "no_full_budget_kernel_5": _mean(part["no_kernel_5"]) if "no_kernel_5" in part else None,
    }


def _mean(values: pd.Series) -> float | None:
    return float(values.mean()) if len(values) else None
