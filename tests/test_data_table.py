"""Labels, splits and groups from a table with a row for each image."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_data_trees import counts, lines, opened, refused, tree

from resnetlab.errors import BadRequest

ROWS = [
    {"file": f"{number:02}.png", "kind": ["cat", "dog"][number % 2], "fold": ["train", "valid", "Test"][number // 12],
     "patient": number // 4}
    for number in range(36)
]  # fmt: skip


def images(root, rows=ROWS):
    return tree(root, [row["file"] for row in rows])


def as_csv(path, rows, between=",", encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=between)
        writer.writeheader()
        writer.writerows(rows)


def as_json(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_parquet(path, rows):
    table = pa.Table.from_pylist(rows).append_column("thumbnail", pa.array([b"\xff"] * len(rows)))
    pq.write_table(table, path)


KINDS = {
    "labels.csv": as_csv,
    "labels.tsv": lambda path, rows: as_csv(path, rows, "\t"),
    "labels.jsonl": as_json,
    "labels.parquet": as_parquet,
    "semicolons.csv": lambda path, rows: as_csv(path, rows, ";"),
    "with-a-mark.csv": lambda path, rows: as_csv(path, rows, encoding="utf-8-sig"),
}
NAMED = {"label_column": "kind", "split_column": "fold"}


@pytest.mark.parametrize(("name", "write"), KINDS.items())
def test_a_table_names_paths_labels_and_splits(tmp_path, name, write):
    root = images(tmp_path / "x")
    write(root / name, ROWS[::-1])
    dataset = opened(root, table=name, **NAMED)
    assert dataset.classes == ("cat", "dog")
    assert [counts(dataset, split) for split in ("train", "val", "test")] == [[6, 6]] * 3
    assert np.array_equal(dataset.images[1], np.asarray(Image.open(root / "02.png")))  # cats before dogs
    assert lines(root, table=name, **NAMED) == [
        f"{name}: 36 images; path from column file, label from column kind, split from column fold"
    ]


def test_every_kind_of_table_gives_the_same_data(tmp_path):
    root = images(tmp_path / "x")
    hashes = set()
    for name, write in KINDS.items():
        write(root / name, ROWS)
        hashes.add(opened(root, table=name, group="patient", **NAMED).hash)
    assert len(hashes) == 1


def test_usual_names_of_columns_need_not_be_given(tmp_path):
    root = images(tmp_path / "x")
    as_csv(root / "l.csv", [{"Path": row["file"], "Label": row["kind"]} for row in ROWS])
    dataset = opened(root, table="l.csv")
    assert dataset.classes == ("cat", "dog") and len(dataset.split("test", 0)) == 5
    assert lines(root, table="l.csv")[1] == "splits: val and test drawn from all images"
    as_csv(root / "m.csv", ROWS)
    refused(
        root, r"which column is the label\? \(dataset.label_column: one of file, kind, fold, patient\)", table="m.csv"
    )


def test_a_table_may_lie_elsewhere_and_name_images_from_where_it_lies(tmp_path):
    root = tree(tmp_path / "x", [f"images/{row['file']}" for row in ROWS])
    (root / "meta").mkdir()
    as_csv(root / "meta/l.csv", [{**row, "file": f"../images/{row['file']}"} for row in ROWS])
    assert len(opened(root, table="meta/l.csv", **NAMED).images) == 36


def test_images_that_the_table_does_not_name_are_said(tmp_path):
    root = images(tmp_path / "x")
    as_csv(root / "l.csv", ROWS[:33])
    assert lines(root, table="l.csv", **NAMED)[-1] == (
        "passed over: 3 files that l.csv does not name: 33.png, 34.png, 35.png"
    )


def test_a_changed_label_is_other_data(tmp_path):
    root = images(tmp_path / "x")
    as_csv(root / "l.csv", ROWS)
    before = opened(root, table="l.csv", **NAMED).hash
    as_csv(root / "l.csv", [{**ROWS[0], "kind": "dog"}, *ROWS[1:]])
    assert opened(root, table="l.csv", **NAMED).hash != before


def altered(**cells):
    return [{**row, **{name: values[number] for name, values in cells.items() if number in values}}
            for number, row in enumerate(ROWS)]  # fmt: skip


BAD = {
    "files that are not there": (
        altered(file={3: "gone.png", 5: "sub/away.png"}),
        r"l.csv: 2 of 36 images are not there \(from .*/x on\): gone.png, sub/away.png",
    ),
    "files outside the root": (
        altered(file={3: "../secret.png", 4: "/etc/passwd"}),
        r"l.csv: 2 of 36 images lie outside .*/x: ../secret.png, /etc/passwd",
    ),
    "blanks in the class": (
        altered(kind={3: "", 7: "  "}),
        r"l.csv: column kind is empty in 2 of 36 rows: line 5, 9",
    ),
    "an image twice": (
        altered(file={3: "00.png"}, kind={3: "cat"}),
        r"l.csv: 1 images are named more than once: 00.png",
    ),
    "an unknown split": (
        altered(fold={3: "holdout"}),
        r"l.csv: column fold has 'holdout' \(allowed: train, val, test\)",
    ),
    "no training images": (
        altered(fold=dict.fromkeys(range(12), "test")),
        r"l.csv: column fold has no training image",
    ),
    "a single class": (altered(kind=dict.fromkeys(range(36), "cat")), r"need two classes or more, found cat"),
}


@pytest.mark.parametrize(("rows", "message"), BAD.values(), ids=BAD)
def test_a_table_that_is_wrong_is_refused(tmp_path, rows, message):
    root = images(tmp_path / "x")
    as_csv(root / "l.csv", rows)
    assert "\n" not in refused(root, message, table="l.csv", **NAMED)


WRONG = {
    "another encoding": (lambda path: as_csv(path, altered(kind={3: "é"}), encoding="latin-1"), r"line 5 is not text"),
    "a short row": (lambda path: path.write_text("file,kind,fold\n00.png,cat\n"), r"line 2 has 2 cells"),
    "nothing": (lambda path: path.write_text(""), r"l.csv: is empty"),
    "no rows": (lambda path: path.write_text("file,kind,fold\n"), r"l.csv: has no rows"),
    "a folder": (lambda path: path.mkdir(), r"l.csv: is not a file"),
    "another column": (lambda path: path.write_text("file,sort,fold\n00.png,cat,train\n"),
                       r"no column 'kind' \(it has: file, sort, fold\)"),
}  # fmt: skip


@pytest.mark.parametrize(("write", "message"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_no_such_table_is_refused(tmp_path, write, message):
    root = images(tmp_path / "x")
    write(root / "l.csv")
    refused(root, message, table="l.csv", **NAMED)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.jsonl", '{"file": "00.png", "kind": "cat"\n', r"line 1 is not JSON"),
        ("l.jsonl", "[1, 2]\n", r"line 1 is no object"),
        ("l.parquet", "PAR1 no", r"not a Parquet file that can be read"),
        ("l.xlsx", "x", r"of a kind that is not read \(allowed: .csv, .tsv, .jsonl, .parquet\)"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, name, text, message):
    root = images(tmp_path / "x")
    (root / name).write_text(text)
    refused(root, message, table=name, **NAMED)


def test_a_table_and_a_rule_for_classes_are_refused(tmp_path):
    root = images(tmp_path / "x")
    refused(root, r"dataset.class_from: the table says the classes", BadRequest, table="l.csv", class_from=1)


def test_a_group_that_spans_given_splits_is_refused(tmp_path):
    root = images(tmp_path / "x")
    as_csv(root / "l.csv", altered(patient={13: 1, 25: 1}))
    refused(
        root, r"dataset.group: 1 groups span splits that the data itself has, e.g. 1 ", table="l.csv", group="patient",
        **NAMED,
    )  # fmt: skip
