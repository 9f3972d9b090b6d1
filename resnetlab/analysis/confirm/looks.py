"""Confirm runs looked at after each whole block: what is settled, which arms go on, what is concluded where all stop.

At each look the plan's own estimators answer every question; p-values are held to what the look may spend
(`confirm.spending`). A comparison is settled where it is an effect (Holm over its family), equivalent (two one-sided
tests at half of what a two-sided 10% may spend), or not resolvable: the conditional power of both is too small for the
rest of the runs to matter. The last is non-binding: no error rate rests on it. All follows from the runs on record
alone, so that a sweep which was killed takes the same decisions again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special, stats

from resnetlab.analysis.confirm import spending
from resnetlab.analysis.confirm.collapse import Answer, Runs, Sides, turning
from resnetlab.analysis.confirm.contrasts import EQUIVALENCE, CellMeans, Estimates, holm, whole_blocks
from resnetlab.analysis.confirm.effects import FAMILIES, Analysis, contrasts, simple_effects
from resnetlab.analysis.confirm.estimands import Estimands
from resnetlab.analysis.confirm.images import UNKNOWN
from resnetlab.analysis.confirm.power import Contrast
from resnetlab.planning.looks import Looks
from resnetlab.planning.plan import Layout

EFFECT, EQUIVALENT, FUTILE, OPEN = "effect", "equivalent", "not resolvable", "open"
REPLANNED = 0.82  # power that seeds are set again for: 80% are left once what was set by chance is counted
COUNTED, FILLED, TRAINED = range(3)  # ways of counting untrained runs, as of `confirm.collapse`


@dataclass(frozen=True)
class Rule:
    """What a plan with looks asks for. blocks: the most that run. families: positions of the questions that Holm's
    adjustment takes together; primary: (questions,); feeds: (arms, arms), whether an arm starts from another's runs."""

    looks: Looks
    asked: Estimands
    sides: Sequence[Sides]
    blocks: int
    alpha: float
    delta: float
    families: tuple[np.ndarray, ...]
    primary: np.ndarray
    used: np.ndarray  # (questions, arms)
    feeds: np.ndarray

    @classmethod
    def of(cls, plan: Layout, asked: Estimands, sides: Sequence[Sides]) -> Rule:
        looks = plan.looks
        if looks is None:
            raise ValueError("the plan has no looks")
        wanted = {(factor, frozenset((level, reference))) for factor, level, reference in looks.primaries}
        tested = np.array([item.kind in ("swap", "main") for item in asked.items], dtype=bool)
        named = [(item.factor, frozenset((item.level, item.reference))) in wanted for item in asked.items]
        possible = ~np.isnan(asked.weights(np.ones(len(plan.arms), dtype=bool))).any(-1)
        primary = tested & possible & np.array(named, dtype=bool)
        families = [np.flatnonzero(primary)]
        for kind in FAMILIES:
            families.append(np.setdiff1d(asked.of_kind(kind), families[0]))
        used = np.zeros((len(asked.items), len(plan.arms)), dtype=bool)
        for i, side in enumerate(sides):
            used[i, np.union1d(*side)] = True
        names = [arm.name for arm in plan.arms]
        feeds = np.array([[looks.sources.get(one) == other for other in names] for one in names], dtype=bool)
        return cls(
            looks, asked, sides, plan.seeds, plan.alpha, plan.least_effect,
            tuple(family for family in families if len(family)), primary, used, feeds,
        )  # fmt: skip

    @property
    def exact(self) -> tuple[float, ...]:
        """The levels that decisions are held to."""
        most = max(map(len, self.families), default=1)
        return tuple(self.looks.share * self.alpha / m for m in range(most, 0, -1))

    def adjusted(self, least: np.ndarray) -> np.ndarray:
        """Holm's adjustment of sequential p-values (repeats, questions), over each family."""
        found = np.full(least.shape, np.nan)
        for family in self.families:
            found[:, family] = holm(least[:, family])
        return found

    def level(self, alpha: float, block: int, blocks: int) -> float:
        """What a two-sided test at `alpha` may use at the look after `block` of `blocks`."""
        return float(spending.nominal(self.looks.share * alpha, blocks)[block - spending.FIRST])

    def least_alpha(self, p: np.ndarray, block: int, blocks: int, exact: tuple[float, ...]) -> np.ndarray:
        """As of `spending`, of the error rate of which the looks spend their share."""
        return np.minimum(spending.least_alpha(p, block, blocks, exact) / self.looks.share, 1.0)


@dataclass(frozen=True)
class Look:
    """What one look saw and decided, of the repeats that were looked at; arrays (repeats, questions).

    blocks: (repeats,) the most that will run, as known by then. level: the nominal two-sided level of each question.
    decision: effect, equivalent, not resolvable or open.
    """

    block: int
    repeats: np.ndarray
    blocks: np.ndarray
    estimates: Estimates
    level: np.ndarray
    decision: np.ndarray
    looked: np.ndarray  # of its questions, those whose arms still ran
    active: np.ndarray  # (repeats, arms) that run another block


@dataclass
class Course:
    """Looks taken one after another in many repeats.

    values, untrained: (repeats, arms, blocks) as of `Runs`. After `follow`: `block` is the last look of each question,
    `stopped` the block after which all stopped, 0 where more runs are asked for; `needed` (repeats, arms, blocks) the
    runs that were asked for as yet.
    """

    rule: Rule
    runs: Runs
    least: np.ndarray = field(init=False)  # (ways, repeats, questions): smallest sequential p so far
    equal: np.ndarray = field(init=False)  # (ways, repeats, questions): found equivalent at some look
    estimates: Estimates = field(init=False)  # of each question at its last look
    n: np.ndarray = field(init=False)  # (repeats, questions, arms) runs that it rests on
    shared: np.ndarray = field(init=False)  # (repeats, questions) whether its variances were those about blocks
    decision: np.ndarray = field(init=False)
    turns: np.ndarray = field(init=False)
    block: np.ndarray = field(init=False)
    blocks: np.ndarray = field(init=False)
    stopped: np.ndarray = field(init=False)
    active: np.ndarray = field(init=False)
    needed: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        repeats, arms, blocks = self.runs.values.shape
        shape = repeats, len(self.rule.asked.items)
        self.least, self.equal = np.full((3, *shape), np.nan), np.zeros((3, *shape), dtype=bool)
        self.estimates = Estimates(*(np.full(shape, np.nan) for _ in range(3)))
        self.n, self.shared = np.zeros((*shape, arms), dtype=int), np.zeros(shape, dtype=bool)
        self.decision, self.turns = np.full(shape, OPEN, dtype=object), np.zeros(shape, dtype=bool)
        self.block = np.zeros(shape, dtype=int)
        self.blocks, self.stopped = np.full(repeats, blocks), np.zeros(repeats, dtype=int)
        self.active = np.ones((repeats, arms), dtype=bool)
        self.needed = np.zeros((repeats, arms, blocks), dtype=bool)
        self.needed[:, :, : spending.FIRST] = True

    def follow(self, ended: np.ndarray | None = None) -> Iterator[Look]:
        """Take each look that is due. ended: (repeats, arms, blocks), which runs have ended; by default all.

        A look is due where all runs that were asked for by then have ended.
        """
        for block in range(spending.FIRST, self.rule.blocks + 1):
            due = self.stopped == 0
            if ended is not None:
                due &= (ended | ~self.needed)[:, :, :block].all((1, 2))
            if not due.any():
                return
            yield self._look(block, np.flatnonzero(due))

    def _look(self, block: int, who: np.ndarray) -> Look:
        rule, runs = self.rule, self._part(block, who)
        looked = (self.active[who][:, None] | ~rule.used).all(-1)
        found = self._count(block, who, runs, looked)
        if block == spending.FIRST and rule.looks.reestimate:
            self.blocks[who] = replanned(rule, runs.trained)
        answers: list[Answer] = []
        for way, (least, equal) in enumerate(self._levels(block, who, found)):
            old = self.least[way, who]
            self.least[way, who] = np.where(looked, np.fmin(old, least), old)
            self.equal[way, who] |= looked & equal
            verdict = self._answer(way, who)[2]
            answers.append(Answer(verdict, found[way].estimate, verdict == EFFECT))
        families = [*rule.families, rule.asked.of_kind("simple")]
        turns = turning((answers[COUNTED], answers[FILLED], answers[TRAINED]), runs, rule.sides, families, rule.alpha)
        self.turns[who] = np.where(looked, turns, self.turns[who])
        self._keep(block, who, looked, found[COUNTED], runs)
        decided = self._decide(block, who, found[COUNTED], answers[COUNTED].verdict, turns)
        self.decision[who] = np.where(looked, decided, self.decision[who])
        self._stop(block, who)
        levels = np.stack([self._level(block, blocks) for blocks in self.blocks[who]])
        return Look(
            block, who, self.blocks[who].copy(), found[COUNTED], levels, self.decision[who].copy(), looked,
            self.active[who].copy(),
        )  # fmt: skip

    def _part(self, block: int, who: np.ndarray) -> Runs:
        """The runs of these repeats up to `block`, of the arms that still run."""
        runs, on = self.runs, self.active[who][:, :, None]
        values = np.where(on, runs.values[who, :, :block], np.nan)
        return Runs(values, on & runs.untrained[who, :, :block], runs.guessing, runs.better)

    def _count(self, block: int, who: np.ndarray, runs: Runs, looked: np.ndarray) -> list[Estimates]:
        """The estimates by each way of counting. Where no run is untrained they are all the same."""
        found = contrasts(self.rule.asked, self._cells(runs.values))
        some = np.flatnonzero(runs.untrained.any((1, 2)))
        ways = [found]
        for values in (runs.filled, runs.trained):
            other = Estimates(*(part.copy() for part in (found.estimate, found.standard_error, found.df)))
            if len(some):
                part = contrasts(self.rule.asked, self._cells(values[some]))
                other.estimate[some], other.standard_error[some] = part.estimate, part.standard_error
                other.df[some] = part.df
            ways.append(other)
        return ways

    def _cells(self, values: np.ndarray) -> CellMeans:
        return CellMeans.of(values, self.rule.asked.blocks)

    def _levels(
        self, block: int, who: np.ndarray, found: Sequence[Estimates]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each way of counting the sequential p-values of this look, and whether it finds equivalence."""
        planned = self.blocks[who]
        for estimates in found:
            p, beyond = estimates.p, not_beyond(estimates, self.rule.delta)
            least, equal = np.full(p.shape, np.nan), np.zeros(p.shape, dtype=bool)
            for blocks in np.unique(planned):
                rows = planned == blocks
                least[rows] = self.rule.least_alpha(p[rows], block, int(blocks), self.rule.exact)
                equal[rows] = beyond[rows] <= self.rule.level(1 - EQUIVALENCE, block, int(blocks)) / 2
            yield least, equal

    def _answer(
        self, way: int, who: np.ndarray, doubted: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Adjusted p, whether it is shown, and the verdict, by one way of counting. doubted: see `effects.analyse`."""
        rule, least = self.rule, self.least[way, who]
        adjusted = rule.adjusted(least)
        shown = np.ones(least.shape, dtype=bool)
        found = adjusted <= rule.alpha
        simple_effects(rule.asked, least, adjusted, shown, found if doubted is None else found & ~doubted)
        verdict = np.select([adjusted <= rule.alpha, self.equal[way, who]], [EFFECT, EQUIVALENT], "inconclusive")
        return adjusted, shown, np.where(np.isnan(least), "not estimable", verdict)

    def _keep(self, block: int, who: np.ndarray, looked: np.ndarray, found: Estimates, runs: Runs) -> None:
        for name in ("estimate", "standard_error", "df"):
            kept = getattr(self.estimates, name)
            kept[who] = np.where(looked, getattr(found, name), kept[who])
        counts = (~np.isnan(runs.values)).sum(-1)[:, None] * self.rule.used
        self.n[who] = np.where(looked[..., None], counts, self.n[who])
        shared = self.rule.asked.blocks & whole_blocks(runs.values)[:, None]
        self.shared[who] = np.where(looked, shared, self.shared[who])
        self.block[who] = np.where(looked, block, self.block[who])

    def _decide(
        self, block: int, who: np.ndarray, found: Estimates, verdict: np.ndarray, turns: np.ndarray
    ) -> np.ndarray:
        rule = self.rule
        open_ = (verdict == "inconclusive") | turns
        hopeless = np.zeros(open_.shape, dtype=bool)
        if block >= rule.looks.futility_from:
            for blocks in np.unique(self.blocks[who]):
                rows = self.blocks[who] == blocks
                if block < blocks:
                    hopeless[rows] = (self._power(block, int(blocks), who, found) < rule.looks.futility)[rows]
        return np.select([~open_ & np.isin(verdict, (EFFECT, EQUIVALENT)), open_ & hopeless], [verdict, FUTILE], OPEN)

    def _power(self, block: int, blocks: int, who: np.ndarray, found: Estimates) -> np.ndarray:
        """The larger conditional power of an effect and of equivalence at the last look, by the normal approximation.

        Of an effect: where the true one is the larger of the estimate and delta, in the direction that was seen; of
        equivalence: where there is none.
        """
        rule, t = self.rule, block / blocks
        spread = np.sqrt(t) * found.standard_error  # of the estimate at the last look
        size = np.abs(found.estimate)
        held = np.full(size.shape, rule.alpha)
        rejected = rule.adjusted(self.least[COUNTED, who]) <= rule.alpha
        for family in rule.families:
            left = np.maximum((~rejected[:, family]).sum(-1), 1)
            levels = {m: rule.level(rule.alpha / m, blocks, blocks) for m in np.unique(left)}
            held[:, family] = np.array([levels[m] for m in left])[:, None]
        cut = -special.ndtri(held / 2)
        going = t * size + (1 - t) * np.maximum(size, rule.delta)
        effect = special.ndtr((going / spread - cut) / np.sqrt(1 - t))
        room = rule.delta + special.ndtri(rule.level(1 - EQUIVALENCE, blocks, blocks) / 2) * spread
        away = spread * np.sqrt(1 - t)
        within = special.ndtr((room - t * size) / away) - special.ndtr((-room - t * size) / away)
        return np.asarray(np.fmax(effect, np.where(room > 0, within, 0.0)))

    def _stop(self, block: int, who: np.ndarray) -> None:
        rule = self.rule
        unsettled = self.decision[who] == OPEN
        waits = unsettled[:, rule.primary].any(-1) if rule.primary.any() else True  # with nothing to settle all is run
        over = np.logical_not(waits) | (block >= self.blocks[who])
        self.stopped[who[over]] = block
        if rule.looks.stops == "arms":
            tested = np.isin([item.kind for item in rule.asked.items], ("swap", "main"))
            wanted = ((unsettled & tested)[..., None] & rule.used).any(1) | ~rule.used.any(0)
            for _ in range(len(rule.feeds)):
                wanted |= (wanted[:, :, None] & rule.feeds).any(1)
            self.active[who] &= wanted
        self.active[who[over]] = False
        if block < rule.blocks:
            self.needed[who, :, block] = self.active[who]

    def _level(self, block: int, blocks: int) -> np.ndarray:
        """The nominal level of each question where none of its family has been rejected."""
        held = np.full(len(self.rule.asked.items), np.nan)
        for family in self.rule.families:
            held[family] = self.rule.level(self.rule.alpha / len(family), block, int(blocks))
        return held

    def analysis(self) -> Analysis:
        """What is concluded from the looks so far, as `effects.analyse_runs` does from all runs at once."""
        adjusted, shown, verdict = self._answer(COUNTED, np.arange(len(self.stopped)), doubted=self.turns)
        verdict = np.where(self.turns & (verdict != "not estimable"), "inconclusive", verdict)
        cells = CellMeans.of(np.where(self.needed, self.runs.values, np.nan))
        settled = self.decision != OPEN
        these, new = self.estimates, UNKNOWN.widened(self.estimates)
        return Analysis(
            self.rule.asked, cells, these, these, new, adjusted, verdict, shown, self.turns, self.rule.families,
            self.shared, self.n, settled,
        )  # fmt: skip

    def repeated(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high ends of the repeated intervals (repeats, questions): those of all looks together hold with the
        probability 1 - α (Jennison & Turnbull 1989), so that they hold wherever one stops."""
        level = np.full(self.block.shape, np.nan)
        for blocks in np.unique(self.blocks):
            for block in np.unique(self.block[self.block > 0]):
                if block <= blocks:
                    which = (self.block == block) & (self.blocks == blocks)[:, None]
                    level[which] = self.rule.level(self.rule.alpha, int(block), int(blocks))
        half = stats.t.isf(level / 2, self.estimates.df) * self.estimates.standard_error
        return self.estimates.estimate - half, self.estimates.estimate + half


def not_beyond(estimates: Estimates, delta: float) -> np.ndarray:
    """One-sided p of the true effect being beyond ±`delta`: the larger of two one-sided tests (Schuirmann 1987)."""
    distance = (delta - np.abs(estimates.estimate)) / estimates.standard_error
    return np.asarray(stats.t.sf(distance, estimates.df))


def replanned(rule: Rule, trained: np.ndarray) -> np.ndarray:
    """(repeats,) How many blocks find delta with the power `REPLANNED` at the level of Holm's first step, by the spread
    that is pooled over the arms' first runs `trained` (repeats, arms, blocks): never by what the arms' means are."""
    cells = CellMeans.of(trained)
    known = cells.df > 0
    squares = np.where(known, cells.variance * cells.df, 0.0).sum(-1)
    sd = np.sqrt(squares / np.maximum(cells.df.sum(-1), 1))
    family = rule.families[0]
    weights = rule.asked.weights(np.ones(trained.shape[1], dtype=bool))[family]
    weights = weights[~np.isnan(weights).any(-1)]
    if not len(weights):
        return np.full(len(sd), rule.blocks)
    hardest = max(weights, key=lambda row: float((row**2).sum()))
    shape = Contrast(int((hardest != 0).sum()), float((hardest**2).sum()))
    # the largest sd for which so many blocks do; one block has no power
    most = [
        rule.delta / shape.detectable(1.0, k, rule.looks.share * rule.alpha / len(family), REPLANNED)
        for k in range(2, rule.blocks)
    ]
    return spending.FIRST + np.searchsorted(most, np.where(known.any(-1), sd, np.inf), side="left")
