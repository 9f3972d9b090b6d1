"""Turn command-line options into the study to run (`--study`, `--set`, …) and how to run it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from resnetlab.errors import BadRequest
from resnetlab.experiment import own
from resnetlab.paths import user_path
from resnetlab.provenance import process_began
from resnetlab.study import Study
from resnetlab.study.included import study_file
from resnetlab.study.yaml_io import parse_value
from resnetlab.vision.data import check

if TYPE_CHECKING:
    from resnetlab.driver.options import Options
    from resnetlab.sweep.state_machine import Stage


def requested_study(
    name: str,
    overrides: Mapping[str, Any],
    settings: Sequence[str] | None = None,
    heard: Callable[[Collection[str]], None] | None = None,
) -> Study:
    """Load the study that `--study` names, with the overrides of the command line.

    Args:
        name: of an included study; or the path of a .yaml or .yml file.
        overrides: dotted key: value, from options of their own; None if the option was not given.
        settings: `key=value` of each `--set`.
        heard: called with the keys of the study's own parts, if it has any, before they are imported.

    Raises:
        BadRequest: no such study, not a valid one, or a setting given twice.
    """
    by_option = {key: value for key, value in overrides.items() if value is not None}
    path, by_set = study_file(name, "--study"), parse_settings(settings)
    if twice := sorted({*by_option} & {*by_set}):
        raise BadRequest(
            f"--set {twice[0]}={by_set[twice[0]]}: another option gives {by_option[twice[0]]} (allowed: one of them)"
        )
    study = own.load(path, by_option | by_set, heard)
    if study.arms and "search.trials" in by_option:
        raise BadRequest(f"--trials {by_option['search.trials']}: {path} names its arms, so that nothing is explored")
    try:
        if study.dataset is not None:
            check(study.dataset)
    except BadRequest as error:
        raise BadRequest(f"{path}: {error}") from None
    return study


def parse_settings(settings: Sequence[str] | None) -> dict[str, Any]:
    """Dotted key: value from the `key=value` of each `--set`. BadRequest if one has another form."""
    parsed = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise BadRequest(f"--set {setting}: need key=value, e.g. search.trials=40")
        if key in parsed:
            raise BadRequest(f"--set {setting}: {key} is set twice (allowed: once)")
        parsed[key] = parse_value(value)
    return parsed


def run_options(
    storage: str,
    address: str | None = None,
    nodes: int = 1,
    phase: str = "all",
    weights: Path | None = None,
    retry_failed: bool = False,
    accept_changed_code: bool = False,
    slots: int | None = None,
    extend: bool = False,
) -> Options:
    """How to run a study, from the options of the command line.

    Raises BadRequest if `weights` cannot be a path, or for several nodes without a cluster.
    """
    if nodes != 1 and address is None:
        raise BadRequest(f"--nodes {nodes}: needs --address (a Ray that is started here has one node)")
    from resnetlab.driver.options import Options

    return Options(
        storage=storage,
        address=address,
        nodes=nodes,
        stage=cast("Stage", phase),
        weights=None if weights is None else user_path(weights, "--weights"),
        retry_failed=retry_failed,
        accept_changed_code=accept_changed_code,
        began=process_began(),
        slots=slots,
        extend=extend,
    )
