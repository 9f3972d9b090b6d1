"""What a plan was fitted to time by, as the plan records it."""

from __future__ import annotations

from resnetlab.study.frozen import Frozen


class Weighed(Frozen):
    """A design that might be run. least: the fewest seeds that carry a claim; least_seconds: what these take; fits:
    the most seeds that end in time, 0 where not even the least do; block_seconds: what each further seed takes."""

    design: str
    arms: int
    least: int
    least_seconds: float
    fits: int
    block_seconds: float


class InTime(Frozen):
    """By what a plan was fitted to a time budget, all times in seconds of the sweep's own time.

    left: for its runs, when it was made. asked: seeds that the study asks for without a budget. enough: the most seeds
    that are of use: with them, delta is found at the upper limit of the pilot's spread; None: there is no pilot.
    proposed: explore trials that there were time for.
    """

    budget: float
    left: float
    slots: int
    asked: int
    enough: int | None
    proposed: int
    weighed: list[Weighed]

    @property
    def chosen(self) -> Weighed | None:
        """The design that is run; None where none fits."""
        return next((one for one in self.weighed if one.fits), None)
