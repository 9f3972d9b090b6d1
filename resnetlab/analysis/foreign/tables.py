"""A table of runs from a CSV or Parquet file, each cell a plain Python value: number, truth value, text or None."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from resnetlab.errors import BadData, BadRequest
from resnetlab.paths import user_path

MOST_BYTES, MOST_ROWS = 1 << 30, 100_000
DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = (".parquet", ".pq")
_WHOLE = re.compile(r"[-+]?\d+")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|[-+]?(?:inf|infinity|nan)", re.IGNORECASE)


@dataclass(frozen=True)
class Search:
    """How a storage of trials was filled.

    domains: every value that each parameter could take; None where there are infinitely many. designed: each trial was
    asked for by name or came from a grid. sampler: an adaptive sampler that left its mark, empty where none did.
    """

    domains: Mapping[str, Sequence[Any] | None]
    designed: bool
    sampler: str = ""


@dataclass(frozen=True)
class RunTable:
    """Runs, one a row. place: where they are from, for people. better: `higher` or `lower`, of metrics for which the
    source says so. search: None for a file, which does not tell how its rows were chosen."""

    place: str
    rows: pd.DataFrame
    better: Mapping[str, str] = field(default_factory=dict)
    search: Search | None = None


def read_runs(place: str) -> RunTable:
    """Read the file at `place`; its name says of which kind it is. BadRequest where there is none of a known kind,
    BadData where it cannot be read."""
    path = user_path(place, "RUNS")
    kind = path.suffix.lower()
    if kind not in (*DELIMITERS, *PARQUET):
        allowed = ", ".join((*DELIMITERS, *PARQUET))
        raise BadRequest(f"RUNS {place}: need a file {allowed}, or an Optuna storage (.db, .log, .journal or a URL)")
    if not path.is_file():
        raise BadRequest(f"RUNS {place}: no such file")
    _check_bytes(path.stat().st_size, place)
    try:
        rows = _parquet(path, place) if kind in PARQUET else _delimited(path, place, DELIMITERS[kind])
    except OSError as error:
        raise BadRequest(f"RUNS {place}: cannot be read: {error.strerror or error}") from None
    return RunTable(place, rows)


def frame(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """A data frame that keeps every value as it is."""
    return pd.DataFrame({name: pd.Series(list(values), dtype=object) for name, values in columns.items()})


def _delimited(path: Path, place: str, delimiter: str) -> pd.DataFrame:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(f"{place}: not UTF-8 at byte {error.start}") from None
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        head = [name.strip() for name in next(lines, [])]
        if not head:
            raise BadData(f"{place}: is empty: need a line with the names of the columns, then one row a run")
        _check_names(head, place)
        rows = []
        for row in lines:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(head):
                raise BadData(f"{place}, line {lines.line_num}: has {len(row)} values (allowed: {len(head)}, as above)")
            rows.append(row)
            _check_count(len(rows), place)
    except csv.Error as error:
        raise BadData(f"{place}, line {lines.line_num}: not CSV: {error}") from None
    return frame({name: _typed([row[i].strip() for row in rows]) for i, name in enumerate(head)})


def _typed(texts: Sequence[str]) -> list[Any]:
    """All of a column as truth values, whole numbers, numbers or text, whichever comes first that fits every cell."""
    there = {text for text in texts if text}
    if not there:
        return [None] * len(texts)
    read: Any = str
    if {text.lower() for text in there} <= {"true", "false"}:
        read = _truth
    elif all(map(_WHOLE.fullmatch, there)) and max(map(len, there)) <= 40:
        read = int
    elif all(map(_NUMBER.fullmatch, there)):
        read = float
    return [read(text) if text else None for text in texts]


def _truth(text: str) -> bool:
    return text.lower() == "true"


def _parquet(path: Path, place: str) -> pd.DataFrame:
    try:
        file = pq.ParquetFile(path)
        _check_names(file.schema_arrow.names, place)
        _check_count(file.metadata.num_rows, place)
        groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
        _check_bytes(sum(group.total_byte_size for group in groups), place)
        table = file.read(use_threads=False)
    except (pa.ArrowException, EOFError, UnicodeDecodeError) as error:
        raise BadData(f"{place}: not Parquet: {str(error).splitlines()[0]}") from None
    plain = [name for name in table.column_names if not pa.types.is_nested(table.schema.field(name).type)]
    return frame({name: table[name].to_pylist() for name in plain})


def _check_names(names: Sequence[str], place: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadData(f"{place}: duplicate column {twice[0]!r}: give each column a name of its own")


def _check_bytes(size: int, place: str) -> None:
    if size > MOST_BYTES:
        raise BadData(f"{place}: has {size:,} bytes (allowed: {MOST_BYTES:,}): need one row a run, not one an epoch")


def _check_count(rows: int, place: str) -> None:
    if rows > MOST_ROWS:
        raise BadData(f"{place}: has more than {MOST_ROWS:,} rows: need one row a run, not one an epoch")
