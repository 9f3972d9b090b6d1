"""The Arrow schemas of the tables in a results folder, with a version, and meaning and unit of each column.

They are the contract between a sweep and its analysis.
Accuracies are fractions; times are seconds; memory is bytes; timestamps are UTC.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping

import pyarrow as pa

from resnetlab.errors import FolderRefused
from resnetlab.study import legacy
from resnetlab.study.metrics import METRICS, Metric
from resnetlab.study.records import Status
from resnetlab.study.trial_config import TrialConfig

SCHEMA_VERSION = 6
RENAMED = 3  # trials of older versions are translated
OLDEST = 2  # that is read
_INTERVALS = ("low_adjusted", "high_adjusted", "verdict_on", "low_these", "high_these", "low_new", "high_new")
_LATER: dict[str, dict[str, int | None]] = {  # columns that tables of older versions may lack, and what they would hold
    "trials": {"study_version": 1},
    "effects": dict.fromkeys(_INTERVALS),
    "predictions": dict.fromkeys(("confidence", "contribution")),
}

_TIME = pa.timestamp("us", tz="UTC")
_TEXT, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()


def _field(name: str, kind: pa.DataType, meaning: str, unit: str = "") -> pa.Field:
    return pa.field(name, kind, metadata={"meaning": meaning, "unit": unit})


_TRIAL_HEAD = [
    _field("trial_id", _TEXT, "hash of the trial's whole config; the key"),
    _field("study", _TEXT, "name of the study"),
    _field("number", _INT, "order in which the sweep proposed it, from 0"),
    _field("phase", _TEXT, "pilot, explore, audit or confirm"),
    _field("status", _TEXT, ", ".join(Status)),
    _field("reason", _TEXT, "why it ended, in words"),
    _field("arm", _TEXT, "pilot: baseline; confirm: the name of the arm, e.g. `kernel=5`"),
    _field("plan_hash", _TEXT, "confirm: hash of the plan that asked for it"),
    _field("design_row", _INT, "confirm: row of the design"),
    _field("seed_block", _INT, "pilot, confirm: replicate; its seeds are shared by all arms"),
]
_TRIAL_TAIL = [
    _field("config", _TEXT, "the whole config as JSON"),
    _field("seed", _INT, "root of the streams init, order, augment, dropout"),
    _field("split_seed", _INT, "root of the splits"),
    _field("stop_probability", _FLOAT, "chance with which this trial was exposed to stopping", "fraction"),
    _field("epochs_run", _INT, "epochs recorded", "epochs"),
    _field("epochs_allowed", _INT, "full budget", "epochs"),
    _field("val_accuracy", _FLOAT, "validation accuracy at the last epoch run", "fraction"),
    _field("val_accuracy_best", _FLOAT, "highest validation accuracy of any epoch (optimistic)", "fraction"),
    _field("val_loss", _FLOAT, "validation loss at the last epoch run", "nats"),
    _field("test_accuracy", _FLOAT, "pilot and confirm trials only, at the last epoch", "fraction"),
    _field("test_loss", _FLOAT, "pilot and confirm trials only, at the last epoch", "nats"),
    _field("parameters", _INT, "all learnable values", "values"),
    _field("trainable", _INT, "those the optimizer changes", "values"),
    _field("multiply_adds", _INT, "convolutions and linear layers, one image forward", "operations"),
    _field("train_seconds", _FLOAT, "training, all epochs", "s"),
    _field("eval_seconds", _FLOAT, "evaluation, all epochs", "s"),
    _field("setup_seconds", _FLOAT, "data, model and checkpoint before the first step", "s"),
    _field("checkpoint_seconds", _FLOAT, "writing checkpoints, all epochs", "s"),
    _field("restarts", _INT, "times that it went on from a checkpoint or began again", "times"),
    _field("device", _TEXT, "what it trained on"),
    _field("device_share", _FLOAT, "share of the GPU, or CPUs, that it was given", "devices"),
    _field("threads", _INT, "CPU threads", "threads"),
    _field("settings", _TEXT, "how it ran, as JSON: precision, deterministic, evaluation batch and what else was set"),
    _field("weights_hash", _TEXT, "content hash of the weights it started from; null from random values"),
    _field("prefix_cached", _BOOL, "true where the frozen stages ran once for all epochs"),
    _field("prefix_seconds", _FLOAT, "running the frozen stages once; part of train_seconds", "s"),
    _field(
        "energy",
        _FLOAT,
        "of the GPU over all epochs, where the GPU reports it; of the whole GPU where trials share one",
        "J",
    ),
    _field("host", _TEXT, "name of the machine"),
    _field("started", _TIME, "when first asked for", "UTC"),
    _field("ended", _TIME, "when its last row came", "UTC"),
    _field("data_hash", _TEXT, "content hash of the dataset"),
    _field("study_version", _INT, "version of the study that asked for it: 1, or a later one of an extended study"),
    _field("git_revision", _TEXT, "of the code; with `+changes` where the tree had local changes"),
    _field("versions", _TEXT, "python, torch, ray, optuna and resnetlab, as JSON"),
]

_TABLES: dict[str, list[pa.Field]] = {
    "epochs": [
        _field("trial_id", _TEXT, "key, with epoch"),
        _field("epoch", _INT, "1 after the first pass over the training split", "epochs"),
        _field("train_loss", _FLOAT, "mean over the steps, as optimised", "nats"),
        _field("train_accuracy", _FLOAT, "over the augmented images that the steps saw", "fraction"),
        _field("val_loss", _FLOAT, "cross entropy on the validation split", "nats"),
        _field("val_accuracy", _FLOAT, "on the validation split", "fraction"),
        _field("lr", _FLOAT, "learning rate of the last step"),
        _field("train_seconds", _FLOAT, "training steps", "s"),
        _field("eval_seconds", _FLOAT, "validation", "s"),
        _field("images_per_second", _FLOAT, "training images over train_seconds", "images/s"),
        _field("peak_memory", _INT, "of the device, or of the process on a CPU", "bytes"),
    ],
    "rungs": [
        _field("trial_id", _TEXT, "key, with rung"),
        _field("rung", _INT, "0 is the lowest"),
        _field("epoch", _INT, "when the decision was made", "epochs"),
        _field("value", _FLOAT, "validation accuracy", "fraction"),
        _field("cutoff", _FLOAT, "what it had to reach; null for the first arrival", "fraction"),
        _field("recorded", _INT, "trials recorded at this rung before", "trials"),
        _field("decision", _TEXT, "continue, stop, or exempt (below the cutoff, in the audit)"),
    ],
    "classes": [
        _field("trial_id", _TEXT, "key, with split and class"),
        _field("split", _TEXT, "val or test"),
        _field("class", _INT, "class number"),
        _field("name", _TEXT, "class name"),
        _field("support", _INT, "images of this class", "images"),
        _field("predicted", _INT, "images predicted as this class", "images"),
        _field("correct", _INT, "images of this class predicted as it", "images"),
    ],
    "predictions": [
        _field("trial_id", _TEXT, "key, with image"),
        _field("image", _INT, "index in the dataset"),
        _field("label", _INT, "its class number"),
        _field("predicted", _INT, "the top-1 class number"),
        _field(
            "confidence", pa.float32(), "probability that the network gave it; null where it is not known", "fraction"
        ),
        _field(
            "contribution",
            pa.float32(),
            "what the image adds to the metric that is confirmed, whose value is the mean; null where that follows "
            "from the predictions, or is not known",
        ),
    ],
    "images": [
        _field("data_hash", _TEXT, "key, with image: content hash of the dataset, as in trials"),
        _field("image", _INT, "index in the dataset, as in predictions"),
        _field("file", _TEXT, "its path from the root of the data on"),
        _field("split", _TEXT, "train, val or test; null where a limit left it out"),
        _field("label", _INT, "its class number"),
        _field("group", _TEXT, "what it belongs to, such as a scene or a patient; null where nothing was said of that"),
    ],
    "effects": [
        _field("name", _TEXT, "key: what is compared, e.g. `kernel: 5 - 3`"),
        _field("factor", _TEXT, "the factor, or two joined by ` × ` for an interaction"),
        _field("level", _TEXT, "the level asked about"),
        _field("reference", _TEXT, "the level it is compared with"),
        _field("estimand", _TEXT, "what is estimated: a change at the incumbent, an average over the other factors, …"),
        _field("estimate", _FLOAT, "difference of mean test accuracy", "fraction"),
        _field("low", _FLOAT, "lower end of the 95% interval that the verdict rests on", "fraction"),
        _field("high", _FLOAT, "upper end of it", "fraction"),
        _field("standard_error", _FLOAT, "of the estimate, as the verdict takes it", "fraction"),
        _field("df", _FLOAT, "degrees of freedom"),
        _field("n", _INT, "runs with the level", "runs"),
        _field("n_reference", _INT, "runs with the reference", "runs"),
        _field("p", _FLOAT, "two-sided, of no difference"),
        _field("p_adjusted", _FLOAT, "Holm over the family"),
        _field("low_adjusted", _FLOAT, "lower end of the interval at 1 - α / comparisons of the family", "fraction"),
        _field("high_adjusted", _FLOAT, "upper end of it", "fraction"),
        _field(
            "verdict_on",
            _TEXT,
            "these images, new images or redrawn splits: what the verdict and its interval are about",
        ),
        _field("low_these", _FLOAT, "lower end of the 95% interval on these test images", "fraction"),
        _field("high_these", _FLOAT, "upper end of it", "fraction"),
        _field("low_new", _FLOAT, "lower end of the 95% interval on new images; null where not known", "fraction"),
        _field("high_new", _FLOAT, "upper end of it", "fraction"),
        _field("verdict", _TEXT, "effect, equivalent or inconclusive; not estimable where runs are missing"),
        _field("note", _TEXT, "what a reader must know"),
        _field("method", _TEXT, "estimator and interval"),
        _field("plan_hash", _TEXT, "hash of the plan"),
    ],
    "looks": [
        _field("plan_hash", _TEXT, "key, with look and name: hash of the plan"),
        _field("look", _INT, "1 is the first"),
        _field("name", _TEXT, "what is compared, as in `effects`"),
        _field("block", _INT, "seed blocks that it saw, from the first on", "blocks"),
        _field("blocks", _INT, "the most that will run, as known by then", "blocks"),
        _field("primary", _BOOL, "true where the whole goes on until it is settled"),
        _field("estimate", _FLOAT, "difference of means, of the metric that is confirmed", "fraction"),
        _field("standard_error", _FLOAT, "of the estimate", "fraction"),
        _field("df", _FLOAT, "degrees of freedom"),
        _field("low", _FLOAT, "lower end of the repeated interval, which holds over all looks", "fraction"),
        _field("high", _FLOAT, "upper end of the same", "fraction"),
        _field("p", _FLOAT, "two-sided, of no difference, at this look alone"),
        _field("level", _FLOAT, "what p is held to while none of its family is an effect"),
        _field("decision", _TEXT, "effect, equivalent, not resolvable, or open"),
        _field("arms", _INT, "arms that run another block; 0 where all stop", "arms"),
    ],
}

KEYS: dict[str, tuple[str, ...]] = {
    "trials": ("trial_id",),
    "epochs": ("trial_id", "epoch"),
    "rungs": ("trial_id", "rung"),
    "classes": ("trial_id", "split", "class"),
    "predictions": ("trial_id", "image"),
    "images": ("data_hash", "image"),
    "effects": ("name",),
    "looks": ("plan_hash", "look", "name"),
}


def factor_type(name: str) -> pa.DataType:
    """The Arrow type of the factor column `name`, from its field in TrialConfig."""
    annotation = TrialConfig.model_fields[name].annotation
    union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    options = typing.get_args(annotation) if union else (annotation,)
    for option in options:
        for kind, arrow in ((bool, _BOOL), (int, _INT), (float, _FLOAT)):
            if option is kind or kind in typing.get_args(option):
                return arrow
    return _TEXT


def schema(
    table: str,
    factors: Iterable[str] = (),
    own: Mapping[str, str] | None = None,
    measures: Iterable[Metric] = (),
) -> pa.Schema:
    """The Arrow schema of `table`.

    factors: the study's factor columns, in `trials`. own: those of them that are settings of the study's own code, each
    with its type (bool, int, float or str). measures: metrics of this study, in `trials` and, except those of the test
    split, in `epochs`; one that has the name of a column of ours gives it its meaning and unit.
    """
    added = {metric.name: metric for metric in measures}
    if table == "trials":
        fields = [*_TRIAL_HEAD, *(_factor(name, (own or {}).get(name)) for name in factors), *_TRIAL_TAIL]
    elif table == "epochs":
        fields = _TABLES[table]
        added = {name: metric for name, metric in added.items() if not name.startswith("test_")}
    else:
        fields, added = _TABLES[table], {}
    fields = [field.with_metadata(_about(added[field.name])) if field.name in added else field for field in fields]
    fields += [_measure(metric) for name, metric in added.items() if name not in METRICS]
    return pa.schema(fields, metadata={"resnetlab.table": table, "resnetlab.version": str(SCHEMA_VERSION)})


def effects_schema(metric: str, unit: str) -> pa.Schema:
    """The schema of an effects table of `metric`, whose differences are in `unit`."""
    fields = []
    for field in _TABLES["effects"]:
        metadata = {key.decode(): text.decode() for key, text in field.metadata.items()}
        metadata["unit"] = unit if metadata["unit"] == "fraction" else metadata["unit"]
        metadata["meaning"] = f"difference of mean {metric}" if field.name == "estimate" else metadata["meaning"]
        fields.append(field.with_metadata(metadata))
    return pa.schema(fields, metadata=schema("effects").metadata)


def _with_later_columns(found: pa.Table, table: str) -> pa.Table:
    """A table of an older version with the columns that it did not have yet."""
    for name, value in _LATER.get(table, {}).items():
        if name not in found.column_names:
            field = schema(table).field(name)
            found = found.append_column(field, pa.array([value] * len(found), field.type))
    return found


def _factor(name: str, own: str | None) -> pa.Field:
    meaning = f"factor {name}; null where inactive"
    if own is None:
        return _field(name, factor_type(name), meaning)
    return pa.field(name, _OWN[own], metadata={"meaning": meaning, "unit": "", "own": own})


def _measure(metric: Metric) -> pa.Field:
    """The column of a study's own metric. `better` in its metadata distinguishes it from a factor."""
    return pa.field(metric.name, _FLOAT, metadata=_about(metric) | {"better": metric.better})


def _about(metric: Metric) -> dict[str, str]:
    unit = "fraction" if metric.fraction else metric.unit
    return {"meaning": f"{metric.words}; null where it was not measured", "unit": unit}


_OWN = {"bool": _BOOL, "int": _INT, "float": _FLOAT, "str": _TEXT}


def own_of(trials: pa.Schema) -> dict[str, str]:
    """The factor columns that are settings of the study's own code, with their types: bool, int, float or str."""
    kinds = {field.name: (field.metadata or {}).get(b"own", b"").decode() for field in trials}
    return {name: kind for name, kind in kinds.items() if kind in _OWN}


def factors_of(trials: pa.Schema) -> tuple[str, ...]:
    """The factor columns of a trials table."""
    fixed = {field.name for field in _TRIAL_HEAD + _TRIAL_TAIL}
    return tuple(field.name for field in trials if field.name not in fixed and not _is_measure(field))


def measures_of(columns: pa.Schema) -> tuple[str, ...]:
    """The columns of metrics that only this study has."""
    return tuple(field.name for field in columns if _is_measure(field))


def _is_measure(field: pa.Field) -> bool:
    return b"better" in (field.metadata or {})


def like(table: str, columns: pa.Schema) -> pa.Schema:
    """The current schema of `table` with the factors and metrics that `columns` has. FolderRefused for a column that is
    neither a setting nor a metric."""
    plain = schema(table) if table != "trials" else _of_trials(columns)
    for field in columns:
        if _is_measure(field) and field.name not in plain.names:
            plain = plain.append(pa.field(field.name, _FLOAT, metadata=field.metadata))
    return plain


def _of_trials(columns: pa.Schema) -> pa.Schema:
    own = own_of(columns)
    for name in factors_of(columns):
        if name not in own and name not in TrialConfig.model_fields:
            raise FolderRefused(f"trials: column {name} is no setting of this version, nor of a part of the study")
    return schema("trials", factors_of(columns), own)


def current(found: pa.Table, table: str, place: str) -> pa.Table:
    """The rows `found`, of any readable version, in the current schema of `table`.

    Raises FolderRefused, naming `place` and what is allowed, if they are of another table, an unknown version, or have
    other columns.
    """
    metadata: Mapping[bytes, bytes] = found.schema.metadata or {}
    kind = metadata.get(b"resnetlab.table", b"").decode()
    version = metadata.get(b"resnetlab.version", b"").decode()
    if kind != table:
        raise FolderRefused(f"{place}: not a resnetlab table of {table}" + (f", but of {kind}" if kind else ""))
    if not version.isdigit() or not OLDEST <= int(version) <= SCHEMA_VERSION:
        raise FolderRefused(f"{place}: schema version {version or 'missing'} (allowed: {OLDEST} to {SCHEMA_VERSION})")
    if table == "trials" and int(version) < RENAMED:
        found = legacy.table(found)
    if int(version) < SCHEMA_VERSION:
        found = _with_later_columns(found, table)
    wanted = like(table, found.schema)
    if sorted(found.schema.names) != sorted(set(wanted.names)):
        raise FolderRefused(f"{place}: columns differ from schema version {version}")
    found = found.select(wanted.names)
    if not found.schema.equals(wanted):
        raise FolderRefused(f"{place}: types differ from schema version {version}")
    return found.replace_schema_metadata(dict(metadata) | dict(wanted.metadata))
