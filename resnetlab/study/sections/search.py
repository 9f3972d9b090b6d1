"""The section `search`: how to explore. A sampler proposes, a rule stops."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from resnetlab.study import catalog, legacy
from resnetlab.study.data_config import made_of
from resnetlab.study.frozen import Frozen, as_truth
from resnetlab.study.grid import combinations
from resnetlab.study.parts import Value
from resnetlab.study.space import Space
from resnetlab.study.yaml_io import suggestion

SAMPLERS = ("tpe", "random", "grid", "quasi-random", "gp", "cma-es", "linear")  # of `search.optuna_sampler`
UNTAUGHT = ("random", "grid", "quasi-random")  # those that no result changes
USUAL_RULE, NO_RULE = "asha", "none"  # which studies also call true and false
RULES = tuple(catalog.parts(catalog.STOPPING))
RULE_SETTINGS = catalog.fields(catalog.STOPPING)  # of the built-in stopping rules


class SearchBase(Frozen):
    """How to explore: a sampler proposes, a rule stops. Their results choose and suggest; they prove nothing.
    `SearchSettings` also has the settings that the files of the stopping rules declare."""

    own: dict[str, dict[str, Value | None]] = Field(
        default_factory=dict, description="written by resnetlab: settings of a sampler and a rule of your own"
    )
    sampler: str = Field(
        "tpe",
        description=f"{' | '.join(SAMPLERS)}, or a reference to your own; linear where a study with factors and one "
        "objective names none",
    )
    trials: int = Field(30, ge=1, le=1_000_000)
    epochs: int = Field(9, ge=1, le=100_000, description="full budget of one trial")
    stopping: bool | str = Field(
        True,
        description=f"{' | '.join(RULES)}, or a reference to your own; true is asha, false is none",
    )
    audit: float = Field(0.1, ge=0.0, le=1.0, description="share of trials exempt from stopping, chosen at random")
    second_objective: Literal["parameters", "multiply_adds", "train_seconds"] | None = Field(
        None, description="a second objective to minimise beside accuracy"
    )

    enqueue: tuple[dict[str, Any], ...] = Field(
        (), description="points to try first, after the baseline, whose values they have where they name none"
    )
    repeat: bool = Field(False, description="a combination may be proposed again, with another seed")
    keep_checkpoints: bool = Field(
        False, description="keep those of trials that ran all epochs, so that a longer budget can go on from them"
    )

    @field_validator("stopping", mode="before")
    @classmethod
    def _usual(cls, stopping: Any) -> Any:
        stopping = as_truth(stopping)
        return {USUAL_RULE: True, NO_RULE: False}.get(stopping, stopping) if isinstance(stopping, str) else stopping

    @model_validator(mode="after")
    def _rule(self) -> Self:
        rule = catalog.stopping_rule(self.rule)
        if rule is not None:
            rule.limits(self.__dict__)
        if self.warm_starts and self.sampler in UNTAUGHT:
            raise ValueError(
                f"from: sampler: {self.sampler} learns from no results (allowed: another sampler, or take it out)"
            )
        if self.enqueue and self.sampler == "grid":
            raise ValueError("enqueue: a grid has every combination (allowed: another sampler, or take it out)")
        for name, found in RULE_SETTINGS.items():
            read = rule is not None and any(one.declared is rule for one in found.readers)
            if not read and name not in legacy.SEARCH and getattr(self, name) != found.default:
                raise ValueError(f"{name} is no setting of stopping: {self.stopping} (allowed: take it out)")
        return self

    @property
    def warm_starts(self) -> tuple[str, ...]:
        """The results folders of `from`, whose trials the sampler is told."""
        found: tuple[str, ...] = self.__dict__["from"]
        return found

    @property
    def rule(self) -> str:
        """The name of its stopping rule, or what refers to one of the study's own."""
        return USUAL_RULE if self.stopping is True else self.stopping or NO_RULE

    @property
    def rungs(self) -> list[int]:
        """The epochs at which its rule decides."""
        rule = catalog.stopping_rule(self.rule)
        return rule.decides(self.__dict__) if rule is not None else list(range(1, self.epochs))

    @property
    def random_first(self) -> int:
        """How many trials `tpe` and `gp` draw at random before they learn from results."""
        return max(5, min(20, self.trials // 4))

    def identity(self) -> dict[str, Any]:
        """Without settings that are not used, of parts that came after the first results, and without what is kept."""
        unread = {name for name in RULE_SETTINGS if name not in legacy.SEARCH and not self._reads(name)}
        content = self.model_dump(mode="json", exclude={*unread, "keep_checkpoints", *([] if self.own else ["own"])})
        return legacy.in_use(content, legacy.LATER_SEARCH)

    def check_known(self, own: Collection[tuple[str, str]]) -> None:
        """Raise ValueError if sampler or stopping rule is neither built in nor in `own`: (key, text) of parts."""
        for name, text, known in (("sampler", self.sampler, SAMPLERS), ("stopping", self.rule, RULES)):
            if text not in known and (f"search.{name}", text) not in own:
                raise ValueError(
                    f"search.{name}: {text!r} is not known{suggestion(text, known)}; or your own: file.py:name"
                )

    def check_space(self, space: Space) -> None:
        """Raise ValueError if the sampler cannot explore these factors."""
        sampler, factors = self.sampler, space.factors
        for factor in factors if sampler in ("gp", "cma-es") else ():
            if len(factor.branches) > 1 or factor.branches[0].when:
                raise ValueError(
                    f"search.sampler: {sampler} takes no conditions, and factors.{factor.name} has one (allowed: tpe, "
                    "random, quasi-random, grid)"
                )
            if sampler == "cma-es" and factor.branches[0].levels is not None:
                raise ValueError(
                    f"search.sampler: cma-es takes ranges alone, and factors.{factor.name} has levels (allowed: tpe, "
                    "gp, random, quasi-random)"
                )
        if sampler == "cma-es" and len(factors) < 2:
            raise ValueError("search.sampler: cma-es takes two ranges or more (allowed: tpe, gp, random, quasi-random)")
        if sampler in ("cma-es", "linear") and self.second_objective:
            raise ValueError(f"search.sampler: {sampler} takes one objective (allowed: tpe, gp, random, quasi-random)")
        if sampler == "grid":
            try:
                combinations(space)
            except ValueError as error:
                raise ValueError(f"search.sampler: {error}") from None

    def _reads(self, name: str) -> bool:
        return any(one.name == self.rule for one in RULE_SETTINGS[name].readers)


if TYPE_CHECKING:

    class SearchSettings(SearchBase):
        """How to explore."""

        def __init__(self, **values: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

else:
    _from = (
        tuple[str, ...],
        Field((), description="results folders of the same space: their trials are told to the sampler"),
    )
    SearchSettings = made_of("SearchSettings", SearchBase, __name__, RULE_SETTINGS, **{"from": _from})
