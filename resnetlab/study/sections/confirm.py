"""The section `confirm`: how effects are confirmed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from resnetlab.study.frozen import Frozen

CROSSED = ("factorial", "fractional")
MIN_LOOKED, MAX_LOOKED = 3, 100  # seeds: with fewer no look comes before the last, with more levels take long to find
MIN_REPLANNED = 8  # seeds: below, what is saved is not worth the power
MIN_SPENT = 1e-6  # alpha: less cannot be shared among looks


class ConfirmSettings(Frozen):
    """How to confirm: fresh seeds, a fixed balanced design around the incumbent, full budget, the test split."""

    seeds: int = Field(3, ge=1, le=1000, description="replicates of each arm")
    design: Literal["one-factor", "factorial", "fractional", "d-optimal", "arms", "none"] = "one-factor"
    around: Literal["incumbent", "baseline"] = Field(
        "incumbent", description="the setting that other arms change: the best explored one, or the baseline"
    )
    images: Literal["new", "these"] = Field(
        "new",
        description="what verdicts are about: new images of the same kind, or the test images (always with looks)",
    )
    splits: Literal["fixed", "per-block"] = Field(
        "fixed", description="one split for all runs, or one drawn again with each block of seeds"
    )
    pilot: int = Field(0, ge=0, le=1000, description="runs of the baseline before all else: how far seeds alone spread")
    arms: int | None = Field(None, ge=2, le=10_000, description="d-optimal: how many; default: an efficient few")
    factors: tuple[str, ...] | None = Field(None, description="which to compare; default: all that have levels")
    alpha: float = Field(0.05, gt=0.0, lt=0.5, description="familywise error rate")
    metric: str = Field("", description="what is confirmed, on the test split; default: the study's objective")
    last_epochs: int = Field(
        1, ge=1, le=100, description="with a constant learning rate: confirm the metric's mean over so many last epochs"
    )
    delta: float = Field(
        0.5, gt=0.0, description="smallest effect of interest: points of a metric in percent, else its own unit"
    )

    looks: Literal["none", "blocks"] = Field(
        "none", description="blocks: look after each block of seeds, and stop what is settled; none: run them all"
    )
    primaries: tuple[str, ...] | None = Field(
        None, description="with looks: factors or arms that must be settled before the sweep stops; default: all"
    )
    reestimate: bool = Field(
        False,
        description="with looks, in crossed designs: set the number of seeds anew after two blocks, by their spread",
    )

    variance: Literal["arms", "blocks"] = Field(
        "arms",
        description="an arm's variance: of its own runs (arms), or about what all arms of a seed share (blocks: the "
        "default with splits: per-block)",
    )

    @model_validator(mode="before")
    @classmethod
    def _variance(cls, given: Any) -> Any:
        """A block's split moves all its arms; their own variances would hold that, and intervals be too wide."""
        if isinstance(given, dict) and given.get("splits") == "per-block":
            return {"variance": "blocks"} | given
        return given

    @field_validator("pilot")
    @classmethod
    def _pilot(cls, pilot: int) -> int:
        if pilot == 1:
            raise ValueError("one run shows no spread (allowed: 0, or 2 to 1000)")
        return pilot

    @model_validator(mode="after")
    def _looks(self) -> ConfirmSettings:
        if self.looks == "none":
            for name in ("primaries", "reestimate"):
                if getattr(self, name):
                    raise ValueError(f"{name}: is for looks (allowed: with looks: blocks)")
            return self
        if self.design == "none":
            raise ValueError("looks: blocks, but nothing is confirmed (allowed with design: none: looks: none)")
        if not MIN_LOOKED <= self.seeds <= MAX_LOOKED:
            raise ValueError(
                f"looks: blocks looks after each block from the second, so it takes {MIN_LOOKED} to {MAX_LOOKED} "
                f"seeds, got seeds={self.seeds}"
            )
        if self.alpha < MIN_SPENT:
            raise ValueError(f"looks: blocks takes alpha of at least {MIN_SPENT:g}, got {self.alpha:g}: looks share it")
        if self.reestimate and (self.design not in CROSSED or self.seeds < MIN_REPLANNED):
            raise ValueError(
                f"reestimate: sets the number of seeds in designs that cross factors ({', '.join(CROSSED)}), of at "
                f"least {MIN_REPLANNED} seeds, got design={self.design}, seeds={self.seeds}"
            )
        return self
