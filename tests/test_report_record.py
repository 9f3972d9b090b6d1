"""The report's order, its record (cost, provenance, reruns), and its treatment of old or incomplete results."""

import io
import json
import pkgutil
import re
import shlex
from importlib import import_module
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_results import default_study, make_results
from rich.console import Console

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.interaction_means import cells
from resnetlab.analysis.results import Results
from resnetlab.commands import short
from resnetlab.errors import FolderRefused
from resnetlab.report import figures, sections
from resnetlab.report.answer import answer
from resnetlab.report.figures.catalog import FIGURES, gallery
from resnetlab.report.findings import Findings
from resnetlab.report.layout import Table
from resnetlab.report.page import PARTS, page
from resnetlab.report.rerun_command import rerun_command
from resnetlab.report.sections import costs, interactions, provenance, stopping
from resnetlab.report.terminal import show, told, unadjusted

ORDER = [
    "answer", "effects", "interactions", "best", "incumbent", "fairness",
    "hypotheses", "flips", "importance",
    "trade", "curves", "asha", "search", "classes", "ensembles",
    "cost", "plan", "provenance", "trials",
]  # fmt: skip


@pytest.fixture(scope="module")
def factorial(tmp_path_factory) -> Results:
    place = tmp_path_factory.mktemp("factorial")
    confirm = {"seeds": 3, "design": "factorial", "factors": ["kernel", "shortcut"]}
    make_results(place, default_study(confirm=confirm), faults=False)
    return Results.open(place)


def rewrite(place: Path, table: str, change) -> None:
    """Replace rows of a table by what `change` makes of them, keeping its schema."""
    found = pq.read_table(place / f"{table}.parquet")
    frame = change(found.to_pandas())
    pq.write_table(pa.Table.from_pandas(frame, found.schema, preserve_index=False), place / f"{table}.parquet")


def test_sections_come_in_the_order_of_a_reader(factorial):
    findings = Findings(factorial)
    drawn = {drawing.name: (drawing, '<svg viewBox="0 0 1 1"></svg>') for drawing in gallery(findings)}
    text = page(findings, drawn)
    found = re.findall(r'<section id="([^"]+)"', text)
    assert [key for key in found if key != "paired"] == ORDER
    links = re.findall(r'<li><a href="#([^"]+)"', text)
    assert links == found[1:]
    first = text.index("<svg viewBox")
    assert text.index('id="answer"') < text.index('class="words"') < first < text.index("<nav")


def test_the_answer_names_what_matters(factorial):
    found = Findings(factorial).effects
    said = answer(Findings(factorial)).words
    by = found[found["estimand"] != "interaction"].groupby("factor")["verdict"].agg(set)
    for factor, verdicts in by.items():
        alike = "No difference" if verdicts == {"equivalent"} else "Undecided:"
        head = "What matters:" if "effect" in verdicts else alike
        assert re.search(rf"{head}[^.]*\b{factor}\b", said.replace("0.5", "half")), said


def test_the_answer_names_arms_by_what_they_are_held_against_and_no_arm_of_another_task():
    place = Path(__file__).resolve().parents[1] / "results" / "reference" / "small-target"
    assert answer(Findings(Results.open(place))).words == (
        "Other than scratch: scratch-few, from-fonts-few and from-characters-few. Undecided against scratch: "
        "from-characters-1, from-characters-2, from-characters, from-characters-full and from-fonts."
    )


@pytest.mark.parametrize(
    "study, names, why",
    [
        (
            "structure-factorial",
            {"blocks: 4 - 2 where head_depth=3"},
            "excludes 0, but p, adjusted for 8 comparisons",
        ),
        ("digits-looks", {"kernel × shortcut: (5 - 3) × (on - off)"}, "excludes 0 only because many looks are not"),
        ("default", set(), ""),
    ],
)
def test_an_interval_without_zero_that_is_not_confirmed_is_marked_and_explained(study, names, why):
    findings = Findings(Results.open(Path(__file__).resolve().parents[1] / "results" / "reference" / study))
    said = told(findings, study)
    marked = said.found[unadjusted(said)]
    assert set(marked["name"]) == names and marked["note"].str.contains(why, regex=False).all()
    console = Console(file=io.StringIO(), width=120)
    show(said, console)
    text = console.file.getvalue()
    assert text.count("inconclusive †") + text.count("inconclusive * †") == len(names)
    assert ("† the interval excludes 0 only unadjusted" in text) == bool(names)


def test_interactions_show_the_means_that_they_are_made_of(factorial):
    found = Findings(factorial).effects
    effects = found.set_index("name")["estimate"]
    against = found.set_index("estimand").loc["interaction", "level"].split(", ")
    means = cells(
        ConfirmRuns.of(factorial.planned, factorial.confirm), dict(zip(("kernel", "shortcut"), against, strict=True))
    )
    assert means.factors == ("kernel", "shortcut") and (means.half > 0).all()
    assert [one[0] for one in means.levels] == [factorial.planned.incumbent[name] for name in means.factors]
    (name,) = [name for name in effects.index if "×" in name]
    assert means.mean[1, 1] - means.mean[0, 1] - (means.mean[1, 0] - means.mean[0, 0]) == pytest.approx(effects[name])
    section = interactions.section(Findings(factorial))
    assert section.figures == ["interactions"] and "difference of differences" in section.text[0]


def test_a_design_that_cannot_show_interactions_says_so(tmp_path):
    make_results(tmp_path)
    results = Results.open(tmp_path)
    section = interactions.section(Findings(results))
    assert section.tables == [] and "Not estimated: the design (one-factor)" in section.text[0]


def test_cost_counts_failed_and_stopped_work_shares_of_devices_and_energy(tmp_path):
    make_results(tmp_path)
    rewrite(tmp_path, "trials", lambda rows: rows.assign(device_share=0.5, energy=3.6e5))
    results = Results.open(tmp_path)
    trials = results.trials
    section = costs.section(Findings(results))
    (table,) = section.tables
    rows = {tuple(row[:2]): dict(zip(table.headings, row, strict=True)) for row in table.rows}
    spent = trials[["train_seconds", "eval_seconds", "setup_seconds", "checkpoint_seconds"]].sum().sum() / 2
    assert float(rows["all", ""]["Device-hours"]) == pytest.approx(spent / 3600, rel=0.01)
    assert rows["all", ""]["Trials"] == f"{len(trials):,}" and rows["all", ""]["Share of device time"] == 1.0
    assert float(rows["all", ""]["Energy (kWh)"]) == pytest.approx(0.1 * len(trials), rel=0.01)
    assert {("explore", "stopped early"), ("explore", "diverged"), ("explore", "failed")} <= set(rows)
    shares = [row["Share of device time"] for key, row in rows.items() if key[0] != "all"]
    assert sum(shares) == pytest.approx(1.0)
    assert "in trials that were stopped early" in section.text[0] and "as NVML tells for 51 of 51" in section.text[1]
    assert "share a GPU each count all of it" in table.foot


def test_without_a_counter_the_report_says_that_energy_was_not_measured(factorial):
    section = costs.section(Findings(factorial))
    assert "not measured" in section.text[1] and "Energy (kWh)" not in section.tables[0].headings


def test_provenance_has_code_changes_hardware_data_seeds_and_every_command(tmp_path):
    make_results(tmp_path)
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    commands = ["python sweeps/ablation.py", "python sweeps/ablation.py --address auto"]
    sessions = [{"command": command} for command in [*commands, commands[0]]]
    (tmp_path / "sweep.json").write_text(json.dumps(sweep | {"sessions": sessions}))
    rewrite(tmp_path, "trials", lambda rows: rows.assign(git_revision="440660fe41f2+changes"))
    results = Results.open(tmp_path)
    (table,) = provenance.section(Findings(results)).tables
    said = dict(table.rows)
    assert said["Git revision"] == "440660fe41f2, with local changes"
    said_commands = [value for name, value in table.rows if name in ("Command", "")]
    assert said_commands == [f"{commands[0]} (3 sessions)", commands[1]]
    for name in ("Versions", "Hardware", "Data hash", "Root seed", "Split seed", "Hosts"):
        assert said[name]
    seeds = said["Seeds of the confirm runs"].split(", ")
    assert len(seeds) == 3 and set(seeds) == set(results.confirm["seed"].astype(str))


@pytest.mark.parametrize(
    "secret", ["s3://key:se/cr3t@bucket/x", "s3://bucket/x?secret_key=se/cr3t", "s3://k:se@cr3t@b"]
)
def test_a_secret_in_a_recorded_command_is_not_in_the_report(tmp_path, secret):
    make_results(tmp_path)
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    command = f"python sweeps/ablation.py --storage {secret}"
    (tmp_path / "sweep.json").write_text(json.dumps(sweep | {"sessions": [{"command": command}]}))
    (table,) = provenance.section(Findings(Results.open(tmp_path))).tables
    said = dict(table.rows)["Command"]
    assert said.startswith("python sweeps/ablation.py --storage s3://") and "…" in said and "cr3t" not in said


def test_the_command_of_a_row_names_the_folder_and_asks_for_data_where_it_needs_some(tmp_path, monkeypatch):
    place = tmp_path / "results" / "a b"
    place.mkdir(parents=True)
    make_results(place, confirm=False)
    results = Results.open(place)
    assert shlex.split(rerun_command(results, str(place)))[2:] == [short(str(place))]
    monkeypatch.chdir(tmp_path)
    assert rerun_command(results, str(place)).endswith("trial.py 'results/a b'")
    other = results.study.model_copy(update={"dataset": results.study.dataset.model_copy(update={"name": "folder"})})
    changed = Results(**{**vars(results), "study": other})
    assert rerun_command(changed, str(place)).endswith("--data DATA")


def test_a_constant_column_is_said_once():
    table = Table(["A", "B", "C"], ["text", "text", "text"], [["1", "x", ""], ["2", "x", ""]], "Foot.")
    found = table.without_empty().said_once("B", "C")
    assert found.headings == ["A"] and found.rows == [["1"], ["2"]] and found.foot == "Foot. B, in every row: x."
    alone = Table(["A", "B"], ["text", "text"], [["1", "x"]])
    assert alone.said_once("B") == alone


def test_tables_of_the_version_before_are_shown_and_of_others_refused_by_name(tmp_path):
    make_results(tmp_path)
    trials = pq.read_table(tmp_path / "trials.parquet")

    def version(table: pa.Table, number: str) -> pa.Table:
        return table.replace_schema_metadata({**table.schema.metadata, b"resnetlab.version": number.encode()})

    pq.write_table(version(trials, "2"), tmp_path / "trials.parquet")
    results = Results.open(tmp_path)
    assert "Energy: not measured" in page(Findings(results), {})
    for number in ("1", "99"):
        pq.write_table(version(trials, number), tmp_path / "trials.parquet")
        with pytest.raises(FolderRefused, match=rf"trials.parquet: schema version {number} \(allowed: 2 to \d+\)"):
            Results.open(tmp_path)


@pytest.mark.parametrize("absent", ["sweep.json", "plan.json"])
def test_an_absent_file_is_named_and_the_rest_is_shown(tmp_path, absent):
    make_results(tmp_path)
    (tmp_path / absent).unlink()
    results = Results.open(tmp_path)
    text = page(Findings(results), {})
    assert f"Absent: {absent}." in text and "What exploration suggests" in text and "All trials" in text


def test_what_asha_stopped_is_told_by_epoch(factorial):
    explore = factorial.explore
    stopped = explore[explore["status"] == "stopped"]["epochs_run"]
    said = stopping.section(Findings(factorial)).text[0]
    assert f"It stopped {len(stopped)} of {len(explore)} trials: " in said
    for epoch, n in stopped.value_counts().items():
        assert f"{n} after epoch {epoch}" in said
    assert pd.Series(stopped).nunique() > 1


def test_every_module_with_a_figure_or_a_section_is_listed():
    def holding(package, function):
        modules = [
            import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)
        ]
        return {module.__name__ for module in modules if hasattr(module, function)}

    assert {module.__name__ for module in FIGURES} == holding(figures, "drawings")
    assert {module.__name__ for modules in PARTS.values() for module in modules} == holding(sections, "section")
