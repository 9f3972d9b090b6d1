"""Labels from a table with a row for each image: CSV, TSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetlab.errors import BadData
from resnetlab.vision.data.folder.listing import listed, read_utf8
from resnetlab.vision.data.folder.trees import LIKE_SPLITS

FIRST = 5  # examples that a message gives
USUAL = {  # column that nobody named: the first of these that is there
    "path": ("path", "file", "file_name", "filename", "filepath", "image", "image_path", "img"),
    "label": ("label", "class", "category", "target", "class_name", "label_name"),
    "split": ("split", "subset"),
    "group": (),
}


@dataclass(frozen=True)
class Columns:
    """What the table says of each image: paths as they stand there, labels, and splits and groups where it has them.
    names: of the columns that were read, by what they are."""

    paths: list[str]
    labels: list[str]
    splits: list[str] | None
    groups: list[str] | None
    names: Mapping[str, str]


def read_table(file: Path, columns: Mapping[str, str | None], at: str = "dataset.table") -> Columns:
    """The columns of a table. columns: by path, label, split and group, as the study names them; None: the usual names.

    at: what the file was given as. BadData where the file cannot be read, lacks a column, or has an empty cell in it.
    """
    where = f"{at}: {file}"
    if not file.is_file():
        raise BadData(f"{where}: is not a file")
    header, rows = _rows(file, where)
    at_column = _found(header, columns, where)
    cells: dict[str, list[str]] = {kind: [] for kind in at_column}
    empty: dict[str, list[int]] = {}
    for number, row in rows:
        for kind, name in at_column.items():
            value = row.get(name)
            text = "" if value is None else _text(value)
            if not text:
                empty.setdefault(kind, []).append(number)
            cells[kind].append(text)
    for kind, numbers in empty.items():
        raise BadData(
            f"{where}: column {at_column[kind]} is empty in {len(numbers):,} of {len(cells[kind]):,} rows: "
            f"{'line' if file.suffix.lower() != '.parquet' else 'row'} {listed(map(str, numbers), FIRST)}"
        )
    if not cells["path"]:
        raise BadData(f"{where}: has no rows")
    splits = _splits(cells["split"], at_column["split"], where) if "split" in cells else None
    return Columns(cells["path"], cells["label"], splits, cells.get("group"), at_column)


def has_column(file: Path, name: str) -> bool:
    """Whether the table has a column of this name. BadData as `read_table` raises it."""
    return file.is_file() and name in _rows(file, f"dataset.table: {file}")[0]


def annotated(file: Path) -> dict[str, str]:
    """File name -> class, of an annotations file beside images: its first two columns, with or without their names."""
    rows: list[Sequence[str]]
    if file.suffix.lower() == ".jsonl":
        found = read_table(file, dict.fromkeys(("path", "label")), "annotations")
        return dict(zip(found.paths, found.labels, strict=True))
    lines = read_utf8(file, f"annotations: {file}").splitlines()
    between = next((mark for mark in ("\t", ",", ";") if any(mark in line for line in lines[:5])), " ")
    rows = [row for row in csv.reader(lines, delimiter=between) if row]
    if short := [number for number, row in enumerate(rows, start=1) if len(row) < 2 or not row[1].strip()]:
        raise BadData(f"annotations: {file}: no class in line {listed(map(str, short), FIRST)} (need file, class)")
    return {row[0].strip(): row[1].strip() for row in rows}


def resolved(root: Path, file: Path, paths: Sequence[str], at: str = "dataset.table") -> list[str]:
    """The absolute path of each image that a table names, from the root or from the table's folder on.

    BadData that counts those that are not there, lie outside the root, or are named twice, with the first of each.
    """
    base, beside = str(root), str(file.parent)
    places = [base] if base == beside else [base, beside]
    found: list[str] = []
    missing: list[str] = []
    outside: list[str] = []
    for path in paths:
        wholes = [os.path.normpath(os.path.join(place, path)) for place in places]  # noqa: PTH118
        inside = [whole for whole in wholes if whole.startswith(base.rstrip(os.sep) + os.sep)]
        there = next(filter(os.path.exists, inside), None)
        if there is not None:
            found.append(there)
        else:
            (missing if inside else outside).append(path)
    for names, what in ((outside, f"lie outside {root}"), (missing, f"are not there (from {root} on)")):
        if names:
            raise BadData(f"{at}: {file}: {len(names):,} of {len(paths):,} images {what}: {listed(names, FIRST)}")
    if len(set(found)) < len(found):
        seen: set[str] = set()
        twice = [path for path, whole in zip(paths, found, strict=True) if whole in seen or seen.add(whole)]  # type: ignore[func-returns-value]
        raise BadData(f"{at}: {file}: {len(twice):,} images are named more than once: {listed(twice, FIRST)}")
    return found


def _rows(file: Path, where: str) -> tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]:
    """The names of the columns, and each row with the number of its line."""
    kind = file.suffix.lower()
    read: Callable[[Path, str], tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]] | None
    read = {".parquet": _parquet, ".jsonl": _json_lines, ".csv": _csv, ".tsv": _csv, ".txt": _csv}.get(kind)
    if read is None:
        raise BadData(f"{where}: of a kind that is not read (allowed: .csv, .tsv, .jsonl, .parquet)")
    return read(file, where)


def _csv(file: Path, where: str) -> tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]:
    lines = read_utf8(file, where).splitlines()
    if not lines:
        raise BadData(f"{where}: is empty")
    tabs = file.suffix.lower() == ".tsv" or ("\t" in lines[0] and file.suffix.lower() != ".csv")
    between = "\t" if tabs else ";" if ";" in lines[0] and "," not in lines[0] else ","
    reader = csv.reader(lines, delimiter=between)
    header = [name.strip() for name in next(reader)]

    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise BadData(
                    f"{where}: line {reader.line_num} has {len(row)} cells, and there are {len(header)} columns"
                )
            yield reader.line_num, dict(zip(header, row, strict=True))

    return header, rows()


def _json_lines(file: Path, where: str) -> tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]:
    found: list[tuple[int, Mapping[str, Any]]] = []
    for number, line in enumerate(read_utf8(file, where).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadData(f"{where}: line {number} is not JSON ({error})") from None
        if not isinstance(row, dict):
            raise BadData(f"{where}: line {number} is no object (need one a line, column: value)")
        found.append((number, row))
    return list(dict.fromkeys(name for _, row in found for name in row)), iter(found)


def _parquet(file: Path, where: str) -> tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        kinds = [(one.name, one.type) for one in table.schema_arrow]
    except (pa.ArrowException, OSError) as error:
        raise BadData(f"{where}: not a Parquet file that can be read ({str(error).splitlines()[0]})") from None

    names = [name for name, kind in kinds if not (pa.types.is_nested(kind) or pa.types.is_binary(kind))]

    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        number = 0
        for batch in table.iter_batches(columns=names):
            for row in batch.to_pylist():
                number += 1
                yield number, row

    return names, rows()


def _found(header: Sequence[str], columns: Mapping[str, str | None], where: str) -> dict[str, str]:
    """The name of each column that is read. BadData where one that was named is missing, or path or label is."""
    found = {}
    for kind, name in columns.items():
        if name is not None:
            if name not in header:
                raise BadData(f"{where}: no column {name!r} (it has: {listed(header)})")
            found[kind] = name
            continue
        name = next((one for one in USUAL[kind] for own in header if own.casefold() == one), None)
        if name is None and kind in ("path", "label"):
            raise BadData(f"{where}: which column is the {kind}? (dataset.{kind}_column: one of {listed(header)})")
        if name is not None:
            found[kind] = next(own for own in header if own.casefold() == name)
    return found


def _splits(values: Sequence[str], column: str, where: str) -> list[str]:
    found = [LIKE_SPLITS.get(value.casefold(), "") for value in values]
    if unknown := sorted({value for value, split in zip(values, found, strict=True) if not split}):
        raise BadData(f"{where}: column {column} has {listed(map(repr, unknown), FIRST)} (allowed: train, val, test)")
    return found


def _text(value: Any) -> str:
    """A cell as text: whole numbers without a fraction, which a column with gaps has as floats."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if isinstance(value, float) and value != value else str(value).strip()
