"""A results folder opened for reading: the study, the plan and the tables as data frames."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pydantic import ValidationError

from resnetlab.errors import BadRequest, FolderRefused
from resnetlab.planning.plan import Plan
from resnetlab.storage.layout import CODE
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.schema import schema
from resnetlab.storage.store import check_study, read_table
from resnetlab.study import Study, build_study
from resnetlab.study.records import CODES_BEFORE, Phase, Status
from resnetlab.study.yaml_io import explain
from resnetlab.wording import plural

TABLES = ("trials", "epochs", "rungs", "classes", "predictions")


@dataclass(frozen=True)
class Results:
    """What a sweep left, or has left so far.

    `images` says which file and group each image of `predictions` is of, where the data had files: see `test_images`.
    An absent table is an empty frame with the right columns, named in `missing`. Columns are those of
    `tables.schema`; a factor column holds plain Python values with None where the factor is inactive (ranges: float64
    with NaN). `notes` are sentences that a reader of any analysis must see.
    """

    folder: ResultsFolder
    study: Study
    plan: Plan | None
    sweep: dict[str, Any]
    trials: pd.DataFrame
    epochs: pd.DataFrame
    rungs: pd.DataFrame
    classes: pd.DataFrame
    predictions: pd.DataFrame
    images: pd.DataFrame
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, place: str | Path) -> Results:
        """Read the folder at a path or URL. BadRequest where there is none, FolderRefused where it is damaged."""
        folder = ResultsFolder.at(place, "RESULTS")
        content = folder.read_json("study.json")
        if content is None:
            raise BadRequest(f"{folder.url}: not a results folder: it has no study.json")
        study = _study(content, f"{folder.url}/study.json")
        plan, notes = _plan(folder)
        tables, missing = {}, []
        for name in TABLES:
            found = read_table(folder, name)
            if found is None:
                missing.append(name)
                found = schema(name, study.columns, study.own_columns, study.measures).empty_table()
            if name == "trials":
                check_study(found["study"].unique().to_pylist(), study.name, folder)
            tables[name] = _frame(found, study.columns if name == "trials" else ())
        files = read_table(folder, "images")
        tables["images"] = (schema("images").empty_table() if files is None else files).to_pandas()
        if study.own.parts:
            notes += (*_changes_of_code(folder), *_of_two_codes(tables["trials"]))
        replaced = tables["trials"].loc[tables["trials"]["status"] == Status.REPLACED, "trial_id"]
        for name in tables if len(replaced) else ():
            if "trial_id" in tables[name]:
                tables[name] = tables[name][~tables[name]["trial_id"].isin(replaced)].reset_index(drop=True)
        return cls(
            folder, study, plan, folder.read_json("sweep.json") or {}, **tables, missing=tuple(missing), notes=notes
        )

    @property
    def factors(self) -> tuple[str, ...]:
        """The study's factors that have a column in `trials`."""
        return tuple(name for name in self.study.columns if name in self.trials.columns)

    def test_images(self, trial_id: str) -> pd.DataFrame:
        """The predictions of one trial, by image, with the file and the group of each: columns of `predictions`, file
        and group, which are None where the data has no files or no groups."""
        mine = self.predictions[self.predictions["trial_id"] == trial_id]
        hashes = self.trials.loc[self.trials["trial_id"] == trial_id, "data_hash"]
        files = self.images[self.images["data_hash"].isin(hashes)]
        found = mine.merge(files[["image", "file", "group"]], on="image", how="left").sort_values("image")
        return found.astype({"file": object, "group": object}).where(found.notna(), None).reset_index(drop=True)

    @property
    def image_groups(self) -> dict[int, int] | None:
        """The number of the group that each image of the confirm runs belongs to, by image number; None where the data
        has no groups, or where the arms were tested on different data, whose numbers mean different images."""
        return self.groups_of(self.confirm)

    def groups_of(self, runs: pd.DataFrame) -> dict[int, int] | None:
        """The same of other runs, rows of `trials`."""
        hashes = runs["data_hash"].unique()
        mine = self.images[self.images["data_hash"].isin(hashes) & self.images["group"].notna()]
        if len(hashes) != 1 or mine.empty:
            return None
        return dict(zip(mine["image"].astype(int), map(int, pd.factorize(mine["group"])[0]), strict=True))

    @property
    def planned(self) -> Plan:
        """The plan, for what is asked only of a folder that has one."""
        if self.plan is None:
            raise ValueError(f"{self.folder.url}: has no plan")
        return self.plan

    @property
    def explore(self) -> pd.DataFrame:
        """Trials that the sampler proposed, the audit included, in the order in which it did."""
        return self.trials[self.trials["phase"].isin([Phase.EXPLORE, Phase.AUDIT])]

    @property
    def confirm(self) -> pd.DataFrame:
        """Confirm trials of the plan in this folder; none where there is no plan."""
        return self._confirm(ours=True)

    @property
    def other_confirm(self) -> pd.DataFrame:
        """Confirm trials of plans that have since been replaced: kept as rows, not analysed."""
        return self._confirm(ours=False)

    def _confirm(self, ours: bool) -> pd.DataFrame:
        confirm = self.trials["phase"] == Phase.CONFIRM
        of_plan = self.trials["plan_hash"] == (self.plan.plan_hash if self.plan else "")
        return self.trials[confirm & (of_plan if ours else ~of_plan)]


def _study(content: dict[str, Any], place: str) -> Study:
    try:
        return build_study(content, place)
    except BadRequest as error:  # a bad study in a folder is not a bad request but a folder that cannot be read
        raise FolderRefused(str(error)) from None


def _changes_of_code(folder: ResultsFolder) -> tuple[str, ...]:
    accepted = (folder.sub(CODE).read_json("accepted.json") or {}).get("changes", ())
    return tuple(
        "The study's own code was changed between its trials, which --accept-changed-code allowed: "
        f"{'; '.join(one['changes'])}. Trials of before and after are compared as if they were alike."
        for one in accepted
    )


def _of_two_codes(trials: pd.DataFrame) -> tuple[str, ...]:
    mixed = [
        row["trial_id"]
        for row in trials[["trial_id", "settings"]].to_dict("records")
        if json.loads(row["settings"] or "{}").get(CODES_BEFORE)
    ]
    names = f"{', '.join(mixed[:5])}{' …' if len(mixed) > 5 else ''}"
    said = f"{plural(len(mixed), 'trial')} had begun before that change and ended after it ({names}): the first epochs"
    return (f"{said} on record are of the code before it.",) if mixed else ()


def _plan(folder: ResultsFolder) -> tuple[Plan | None, tuple[str, ...]]:
    content = folder.read_json("plan.json")
    if content is None:
        return None, ()
    recorded = content.pop("plan_hash", None)
    try:
        plan = Plan(**content)
    except ValidationError as error:
        raise FolderRefused(explain(error, Plan, f"{folder.url}/plan.json")) from None
    if recorded not in (None, plan.plan_hash):
        return plan, (
            f"plan.json was changed after it was written: its hash was {recorded} and is now {plan.plan_hash}. "
            "Confirm trials of the plan as it was are not used.",
        )
    return plan, ()


def _frame(table: pa.Table, factors: tuple[str, ...]) -> pd.DataFrame:
    frame = table.to_pandas()
    for name in factors:
        if name in table.column_names and table.schema.field(name).type != pa.float64():
            frame[name] = pd.Series(table[name].to_pylist(), index=frame.index, dtype=object)
    return frame
