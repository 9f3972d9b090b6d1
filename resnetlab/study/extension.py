"""What one study asks beyond another: which differences go on from the results of the first, and which do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from resnetlab.study.space import Branch, Factor
from resnetlab.study.study import Study, differences
from resnetlab.wording import level_text, plural

Kind = Literal["trials", "levels", "factor", "arm", "budget", "seeds", "plan"]
EXPLORED: frozenset[Kind] = frozenset({"trials", "levels", "factor", "arm", "budget"})
NOT_FROZEN = ("confirm", "hypotheses")  # what changes these leads to a new plan, and is never refused
WORDS = "{} in the folder, {} asked for"


@dataclass(frozen=True)
class Change:
    """One difference that results go on from. text: what is asked for now, beside what it was."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Extension:
    """changes: what the new study asks for beyond the old one. refused: differences that no results go on from, each
    with what is allowed. random_first: `SearchSettings.random_first` of the old and of the new study."""

    changes: tuple[Change, ...]
    refused: tuple[str, ...]
    random_first: tuple[int, int]

    @property
    def kinds(self) -> frozenset[Kind]:
        return frozenset(change.kind for change in self.changes)

    @property
    def explores(self) -> bool:
        """Whether the plan must be considered anew: the search goes on, or there is more to compare."""
        return bool(self.kinds & EXPLORED)


def extension(old: Study, new: Study) -> Extension:
    """Compare two studies of one name, without what `Study.identity` leaves out and their own code.

    Changes of `confirm` and `hypotheses` are changes of kind `plan`, which are never refused; more seeds and nothing
    else there are of kind `seeds`.
    """
    changes: list[Change] = []
    refused: list[str] = []
    for change in (*_counts(old, new), *_space(old, new), *_arms(old, new)):
        (changes.append if isinstance(change, Change) else refused.append)(change)  # type: ignore[arg-type]
    taken = {"own", "factors", "arms", "baseline"}
    one, other = ({k: v for k, v in s.identity().items() if k not in taken} for s in (old, new))
    for content in (one, other):
        content["search"] = {k: v for k, v in content["search"].items() if k not in ("trials", "epochs")}
    refused += differences(one, other, words=WORDS)
    random_first = old.search.random_first, new.search.random_first
    return Extension(tuple([*changes, *_confirmed(old, new)]), tuple(refused), random_first)


def _counts(old: Study, new: Study) -> Iterator[Change | str]:
    """The number of explore trials, and the budget of each."""
    kinds: dict[str, Kind] = {"trials": "trials", "epochs": "budget"}
    for name, kind in kinds.items():
        before, now = getattr(old.search, name), getattr(new.search, name)
        text = f"search.{name}: {WORDS.format(before, now)}"
        if now > before:
            yield Change(kind, text)
        elif now < before:
            yield f"{text} (allowed: {before} or more)"


def _confirmed(old: Study, new: Study) -> Iterator[Change]:
    one, other = ({name: study.recorded()[name] for name in NOT_FROZEN} for study in (old, new))
    changed = differences(one, other, words=WORDS)
    more = [text for text in changed if text.startswith("confirm.seeds:")]
    if more and new.confirm.seeds > old.confirm.seeds and len(changed) == 1:
        yield Change("seeds", more[0])
    else:
        yield from (Change("plan", text) for text in changed)


def _space(old: Study, new: Study) -> Iterator[Change | str]:
    """Factors and the baseline: every trial of the old study must be a point of the new one's space."""
    one, other = old.space, new.space
    if bool(old.factors) != bool(new.factors):
        yield f"factors: {len(old.factors)} in the folder, {len(new.factors)} asked for (allowed: as before)"
        return
    more = {name: _further(one[name], other[name]) for name in one.names if name in other.names}
    for name in one.names:
        if name not in other.names:
            yield f"factors.{name}: in the folder, not asked for (allowed: all factors of the folder)"
    for factor in other.factors:
        if factor.name not in one.names:
            if problem := _not_at_its_baseline(old, new, factor.name):
                yield problem
            else:
                yield Change("factor", f"factors.{factor.name}: a further factor, {_described(factor)}")
            continue
        before = one[factor.name]
        if before.branches == factor.branches:
            continue
        words = WORDS.format(_described(before), _described(factor))
        if _contains(before, factor, more):
            yield Change("levels", f"factors.{factor.name}: {words}")
        else:
            yield f"factors.{factor.name}: {words} (allowed: these levels and further ones, under the same conditions)"
    fixed = {*old.baseline, *new.baseline} - ({*other.names} - {*one.names})
    was, now = ({name: study.baseline.get(name) for name in fixed} for study in (old, new))
    yield from differences(was, now, "baseline.", WORDS)


def _not_at_its_baseline(old: Study, new: Study, name: str) -> str:
    """Why trials of before are at no level of the further factor `name`; empty where they are at its baseline."""
    was, now = (getattr(study.baseline_config(seed=0), name) for study in (old, new))
    if was == now:
        return ""
    return (
        f"baseline.{name}: {WORDS.format(level_text(was), level_text(now))} (allowed: {level_text(was)}, at which the "
        "trials of the folder ran)"
    )


def _described(factor: Factor) -> str:
    return "; ".join(branch.describe() for branch in factor.branches)


def _further(old: Factor, new: Factor) -> set[Any]:
    """The levels that only the new factor has."""
    return set(map(_key, new.levels)) - set(map(_key, old.levels))


def _key(level: Any) -> tuple[bool, Any]:
    return isinstance(level, bool), level


def _contains(old: Factor, new: Factor, more: Mapping[str, set[Any]]) -> bool:
    """Whether the old branches, in their places, allow what they allowed, and no branch holds for more trials of before
    than it did: one may hold at further levels (`more`, by factor) of another factor."""
    if len(new.branches) < len(old.branches):
        return False
    same = all(_grown(a, b, more) for a, b in zip(old.branches, new.branches, strict=False))
    return same and all(_only_at(branch.when, more) for branch in new.branches[len(old.branches) :])


def _only_at(when: Mapping[str, tuple[Any, ...]], more: Mapping[str, set[Any]]) -> bool:
    """Whether the condition holds for no trial of before."""
    return any({*map(_key, levels)} <= more.get(name, set()) for name, levels in when.items())


def _grown(old: Branch, new: Branch, more: Mapping[str, set[Any]]) -> bool:
    if old.when.keys() != new.when.keys():
        return False
    for name, levels in old.when.items():
        before, now = {*map(_key, levels)}, {*map(_key, new.when[name])}
        if not before <= now or not now - before <= more.get(name, set()):
            return False
    if old.levels is not None:
        return new.levels is not None and {*map(_key, old.levels)} <= {*map(_key, new.levels)}
    if new.low is None or new.high is None or (old.log, old.integer) != (new.log, new.integer):
        return False
    return bool(new.low <= old.low <= old.high <= new.high)  # type: ignore[operator]


def _arms(old: Study, new: Study) -> Iterator[Change | str]:
    """Named arms: further ones may follow those of before."""
    first = list(new.arms)[: len(old.arms)]
    before, now = (study.identity()["arms"] for study in (old, new))
    if first != list(old.arms):
        words = WORDS.format(", ".join(old.arms) or "none", ", ".join(new.arms) or "none")
        yield f"arms: {words} (allowed: further ones after those)"
        return
    yield from differences(before, {name: now[name] for name in first}, "arms.", WORDS)
    if further := list(new.arms)[len(first) :]:
        if old.arms:
            yield Change("arm", f"arms: {plural(len(further), 'further arm')}, {', '.join(further)}")
        else:
            yield f"arms: none in the folder, {', '.join(further)} asked for (allowed: none)"
