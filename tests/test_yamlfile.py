"""Study files and `--set` are read by the core schema of YAML 1.2."""

import math

import pytest

from resnetlab.errors import BadRequest
from resnetlab.study import load_study
from resnetlab.study.yaml_io import parse_value, read_yaml

STUDY = """
dataset: {name: glyphs, variants: 1}
factors:
  kernel: {levels: [3, 5]}
search: {trials: 2, epochs: EPOCHS, grace_period: 1}
"""

NUMBERS = {
    "010": 10, "007": 7, "-010": -10, "08": 8, "+5": 5, "0o10": 8, "0x1F": 31, "1e5": 1e5, "1e-3": 1e-3, ".5": 0.5,
    "1.": 1.0, "5.0e-4": 5e-4, "-.inf": -math.inf, ".INF": math.inf, "!!int 010": 10, "!!float 1": 1.0,
}  # fmt: skip
TEXTS = "1:30 190:20:30 0b11 1_000 1_0.5 1e +.nan yes No on OFF y n 2024-01-01 2001-12-14t21:59:43.10-05:00 = << ."
REFUSED = ("!!timestamp 2024-01-01", "!!binary aGk=", "!!set {a}", "!!int 1:30", "!!bool yes", "9" * 5000)


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_are_decimal_unless_marked_otherwise(text):
    found = parse_value(text)
    assert found == NUMBERS[text] and type(found) is type(NUMBERS[text])


@pytest.mark.parametrize("text", TEXTS.split())
def test_what_only_yaml_1_1_takes_for_a_number_a_truth_value_or_a_date_is_text(text):
    assert parse_value(text) == text


def test_the_empty_value_and_its_spellings_are_null():
    assert [parse_value(text) for text in ("", "~", "null", "Null", "NULL")] == [None] * 5
    assert parse_value(".nan") != parse_value(".nan")
    assert [parse_value(text) for text in ("true", "True", "FALSE")] == [True, True, False]


@pytest.mark.parametrize("text", REFUSED)
def test_other_tags_and_numbers_without_end_are_refused_with_their_line(text, tmp_path):
    (tmp_path / "s.yaml").write_text(f"a: 1\nb: {text}\n")
    with pytest.raises(BadRequest, match=r"s\.yaml, line 2, column"):
        read_yaml(tmp_path / "s.yaml")
    assert parse_value(text) == text


def test_a_merge_key_is_a_key_like_any_other(tmp_path):
    (tmp_path / "s.yaml").write_text("a: {<<: {b: 1}, c: 2}\n")
    assert read_yaml(tmp_path / "s.yaml") == {"a": {"<<": {"b": 1}, "c": 2}}


def test_a_key_that_is_a_number_is_refused_and_a_word_is_not(tmp_path):
    (tmp_path / "s.yaml").write_text("on: 1\nno: 2\n")
    assert read_yaml(tmp_path / "s.yaml") == {"on": 1, "no": 2}
    (tmp_path / "s.yaml").write_text("2024: 1\n")
    with pytest.raises(BadRequest, match="key 2024 must be text: put it in quotes"):
        read_yaml(tmp_path / "s.yaml")


def test_epochs_with_a_leading_zero_are_decimal_in_a_file_and_on_the_command_line(tmp_path):
    (tmp_path / "s.yaml").write_text(STUDY.replace("EPOCHS", "010"))
    assert load_study(tmp_path / "s.yaml").search.epochs == 10
    assert load_study(tmp_path / "s.yaml", {"search.epochs": parse_value("011")}).search.epochs == 11


@pytest.mark.parametrize("text", ["1:30", "1_000", "0b11", "2024-01-01", "yes", "on"])
def test_a_setting_that_is_a_number_refuses_what_is_none(text, tmp_path):
    (tmp_path / "s.yaml").write_text(STUDY.replace("EPOCHS", text))
    with pytest.raises(BadRequest, match=f"search.epochs: need a whole number, got the text '{text}'"):
        load_study(tmp_path / "s.yaml")


def test_text_may_look_like_a_truth_value_or_a_date(tmp_path):
    (tmp_path / "s.yaml").write_text(STUDY.replace("EPOCHS", "2") + "name: on\ntitle: 2024-01-01\nquestion: no\n")
    study = load_study(tmp_path / "s.yaml")
    assert (study.name, study.title, study.question) == ("on", "2024-01-01", "no")
