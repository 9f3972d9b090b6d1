"""The report: one file, made from the tables alone, correct even if they lack something or hold strange values."""

import json
import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from made_results import default_study, make_results
from matplotlib.figure import Figure

from resnetlab.analysis.results import Results
from resnetlab.errors import BadData
from resnetlab.report.answer import answer
from resnetlab.report.build import build_report
from resnetlab.report.figures import arm_costs, arm_curves, class_accuracy, confusion
from resnetlab.report.figures.catalog import NAMES, gallery
from resnetlab.report.figures.effects import draw_effects
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import EFFECT, asked, compact, duration, p_value, percents, settings, signed
from resnetlab.report.page import page
from resnetlab.report.rendering import PALETTE, inline, render
from resnetlab.storage.schema import schema
from resnetlab.study.metrics import METRICS

OTHERS = (
    "interactions",
    *arm_curves.NAMES,
    *class_accuracy.NAMES,
    *confusion.NAMES,
    *arm_costs.NAMES,
)  # of other designs
SHOWN = [name for name in NAMES if name not in OTHERS] + ["confusion-1"]  # of a searched study
ROOT = Path(__file__).parent.parent
MARKUP = "<script>alert('x')</script> & \"q\""


class Page(HTMLParser):
    """The tags, attributes and visible text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.parts: list[str] = []
        self.scripts: list[tuple[dict, str]] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._inside != "style":
            self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.parts).split())

    @property
    def data(self) -> dict:
        """The table of all trials, as the page's script reads it."""
        return json.loads(next(body for attributes, body in self.scripts if attributes.get("id") == "trial-data"))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("made")
    make_results(place)
    return place


@pytest.fixture(scope="module")
def built(place) -> Page:
    assert build_report(place) == place / "report.html"
    return Page((place / "report.html").read_text(encoding="utf-8"))


def quick(results: Results) -> Page:
    """The page without its pictures; the figures are drawn, but not written."""
    findings = Findings(results)
    for drawing in gallery(findings):
        drawing.draw(Figure(figsize=drawing.size).subplots())
        assert drawing.alt and drawing.caption and "trial" in drawing.foot
    return Page(page(findings, {}))


def rewrite(place: Path, **columns: list) -> None:
    """Replace columns of `trials.parquet`."""
    trials = pq.read_table(place / "trials.parquet")
    for name, values in columns.items():
        at = trials.column_names.index(name)
        field = trials.schema.field(at)
        trials = trials.set_column(at, field, pa.array(values, field.type))
    pq.write_table(trials, place / "trials.parquet")


def copy(place: Path, to: Path, *without: str) -> None:
    for file in place.glob("*.*"):
        if file.name not in without:
            (to / file.name).write_bytes(file.read_bytes())


def test_the_script_needs_neither_torch_nor_ray(place):
    """In a fresh process, with none of them loaded at its end."""
    code = (
        "import atexit, runpy, sys\n"
        "heavy = {'torch', 'torchvision', 'ray', 'matplotlib.pyplot'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules))))\n"
        "runpy.run_path('sweeps/report.py', run_name='__main__')"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, place]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(place / "report.html"), "[]"] and done.stderr == ""


def test_the_script_names_what_is_wrong(tmp_path, capsys):
    def run(where):
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(ROOT / "sweeps" / "report.py"))["app"]([str(where)])
        return left.value.code, capsys.readouterr()

    code, said = run(tmp_path / "nowhere")
    assert code == 2 and "nowhere" in said.err and said.out == "" and not (tmp_path / "nowhere").exists()
    (tmp_path / "study.json").write_text("{")
    code, said = run(tmp_path)
    assert code == 4 and "study.json" in said.err and said.err.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["study.json"]


def test_every_figure_is_there_as_png_and_svg_and_says_what_it_rests_on(place, built):
    import matplotlib.image

    for name in SHOWN:
        pixels = matplotlib.image.imread(place / "figures" / f"{name}.png")
        assert pixels.shape[1] in (1050, 2100)  # 300 dpi at one and two columns
        svg = (place / "figures" / f"{name}.svg").read_text()
        assert re.search(r"(explore|confirm) trials: \d+ complete", svg)
        assert ("stopped early" in svg) == ("explore trials" in svg)
        assert (place / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    captions = re.findall(r"Rests on (\d+) (explore|confirm) trials: \d+ complete", built.text)
    assert len(captions) == len(SHOWN) and {kind for _, kind in captions} == {"explore", "confirm"}
    labels = re.findall(r'<div role="img" aria-label="([^"]+)"', (place / "report.html").read_text())
    assert len(labels) == len(SHOWN) and all(len(label) > 40 for label in labels)


def test_one_figure_is_made_at_either_width_and_says_what_its_intervals_mean(place, tmp_path, capsys):
    script = runpy.run_path(str(ROOT / "sweeps" / "report.py"))["app"]

    def run(*words):
        with pytest.raises(SystemExit) as left:
            script([str(place), *map(str, words)])
        return left.value.code, capsys.readouterr()

    out = tmp_path / "fig3.pdf"
    code, said = run("--figure", "effects", "--out", out)
    assert code == 0 and out.read_bytes().startswith(b"%PDF") and b"/MediaBox [ 0 0 504 " in out.read_bytes()
    assert said.out.startswith(f"{out}\n") and "lines are 95% intervals" in said.out and "Rests on 21" in said.out
    assert run("--figure", "effects", "--out", out, "--columns", 1)[0] == 0
    assert b"/MediaBox [ 0 0 252 " in out.read_bytes()
    code, said = run("--figure", "efects", "--out", out)
    assert code == 2 and "no such figure" in said.err and ": effects, effects-narrow, learning-curves" in said.err
    code, said = run("--figure", "arm-curves", "--out", out)
    assert code == 2 and "its tables do not have what it shows" in said.err
    for words, why in (
        (["--figure", "effects", "--out", "x.jpg"], "x.jpg: need a name that ends in .png, .svg, .pdf"),
        (["--figure", "effects", "--columns", "3"], "--columns 3: allowed: 1, 2"),
        (["--figure", "effects", "--out", tmp_path / "no" / "x.pdf"], "cannot be written"),
        (["--columns", "1"], "name it with --figure"),
    ):
        code, said = run(*words)
        assert code == 2 and why in said.err and said.err.count("\n") == 1


def test_times_are_in_the_unit_that_suits_their_size():
    seconds = METRICS["train_seconds"]
    assert [seconds.suited(most).unit for most in (90, 600, 9000)] == ["s", "min", "h"]
    assert seconds.suited(9000).show(5400) == "1.5 h" and METRICS["parameters"].suited(1e9).unit == ""


def test_the_page_is_one_file_that_asks_for_nothing(place, built):
    text = (place / "report.html").read_text()
    policy = next(
        value for tag, name, value in built.attributes if tag == "meta" and name == "content" and "src" in value
    )
    assert policy.startswith("default-src 'none'") and "script-src 'sha256-" in policy
    loads = [value for tag, name, value in built.attributes if name in ("src", "srcset", "action", "data")]
    links = [value for _, name, value in built.attributes if name in ("href", "xlink:href")]
    assert loads == [] and all(link.startswith(("#", "data:")) for link in links)
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    identifiers = [value for _, name, value in built.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))
    assert all(link[1:] in identifiers for link in links if link.startswith("#"))
    assert len(text) < 400_000


def test_the_same_tables_give_the_same_bytes(place, built):
    names = [
        "report.html",
        "effects.parquet",
        "figures/effects.png",
        "figures/learning-curves.svg",
        "figures/rungs.pdf",
    ]
    before = [(place / name).read_bytes() for name in names]
    build_report(place)
    assert [(place / name).read_bytes() for name in names] == before


def test_the_answer_comes_first_with_interval_and_n(place, built):
    results = Results.open(place)
    effects = pq.read_table(place / "effects.parquet")
    assert effects.schema.equals(schema("effects"))
    found = effects.to_pandas()
    worst = found[found["name"] == "blocks: 1 - 2"].iloc[0]
    assert worst["verdict"] == "effect" and worst["estimate"] < -0.02  # planted: 3 points below
    said = answer(Findings(results))
    assert said.confirmed[0].claim == f"blocks 1 instead of 2: {signed(worst['estimate'], unit=True)}"
    assert re.fullmatch(
        r"95% interval −\d\.\d\d … −\d\.\d\d, n = 3 against 3, adjusted p [=<] 0\.\d+", said.confirmed[0].evidence
    )
    text = built.text
    assert text.index("The answer") < text.index(said.confirmed[0].claim) < text.index("Effects on fresh seeds")
    every = said.confirmed + said.equivalent + said.inconclusive + said.not_estimable
    assert len(every) == len(found) and all(statement.claim in text for statement in every)
    number = {1: "One of 6 comparisons is a"}.get(len(said.confirmed), f"{len(said.confirmed)} of 6 comparisons are")
    assert f"{number} confirmed effect" in text and "20 of 21 planned confirm runs reached the full budget" in text
    assert "exploration: hypotheses, not effects" in text


def test_no_effect_is_computed_at_unequal_epochs(place, built, tmp_path):
    """All that the effects rest on ran the one budget; a row that says otherwise leaves no report at all."""
    results = Results.open(place)
    found, runs = Findings(results).effects, results.confirm[results.confirm["status"] == "complete"]
    budget = results.study.search.epochs
    assert set(runs["epochs_run"]) == set(runs["epochs_allowed"]) == {budget}
    last = results.epochs.groupby("trial_id")["epoch"].max()
    assert set(last[runs["trial_id"]]) == {budget}
    mean = runs.groupby("arm")["test_accuracy"].mean()
    (row,) = found[found["name"] == "kernel: 5 - 3"].to_dict("records")
    assert row["estimate"] == pytest.approx(mean["kernel=5"] - mean["incumbent"])
    assert f"all compared at epoch {budget}" in built.text
    copy(place, tmp_path, "report.html")
    trials = pq.read_table(place / "trials.parquet")
    one = trials["trial_id"].to_pylist().index(runs["trial_id"].iloc[0])
    for columns, message in (
        (["epochs_run"], rf"complete after 1 of {budget} epochs; effects are computed at the full budget only"),
        (["epochs_run", "epochs_allowed"], "confirm rows of unequal budgets"),
    ):
        changed = {name: trials[name].to_pylist() for name in columns}
        for values in changed.values():
            values[one] = 1
        rewrite(tmp_path, **{name: trials[name].to_pylist() for name in ("epochs_run", "epochs_allowed")} | changed)
        with pytest.raises(BadData, match=message):
            build_report(tmp_path)
        assert not (tmp_path / "report.html").exists()


def test_all_trials_are_in_the_table_with_their_config_and_curve(place, built):
    trials = Results.open(place).trials
    data = built.data
    keys = [column[0] for column in data["columns"]]
    assert len(data["rows"]) == len(data["ends"]) == len(data["configs"]) == len(trials)
    rows = [dict(zip(keys, row, strict=True)) for row in data["rows"]]
    for row, trial, end, own in zip(rows, trials.to_dict("records"), data["ends"], data["configs"], strict=True):
        config = data["shared"] | own
        whole = json.loads(trial["config"])
        assert end[0] == trial["trial_id"] and row["status"] == trial["status"]
        assert config["kernel"] == whole["kernel"] and config["seed"] == str(whole["seed"])
        assert set(config) == set(whole) - {"data"} | {f"data.{name}" for name in whole["data"]}
        assert (row["momentum"] is None) == (trial["optimizer"] == "adamw")
        curve = data["curves"].get(trial["trial_id"], [])
        assert len(curve) == trial["epochs_run"]
        if curve:
            assert curve[-1] == round(10_000 * trial["val_accuracy"])


def test_markup_in_names_stays_text(tmp_path):
    study = default_study(title=MARKUP, question=MARKUP)
    make_results(tmp_path, study, classes=(MARKUP, "字", "אבג", "</td>"))
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    command = f"python sweeps/ablation.py --storage s3://user:secret@bucket/x {MARKUP}"
    (tmp_path / "sweep.json").write_text(json.dumps(sweep | {"command": command}))
    found = quick(Results.open(tmp_path))
    assert found.tags.count("script") == 2 and "alert" not in "".join(body for _, body in found.scripts[1:])
    assert found.text.count(MARKUP) >= 4 and "字" in found.text and "אבג" in found.text
    assert "secret" not in found.text and "s3://…@bucket/x" in found.text
    reasons = [end[1] for end in found.data["ends"]]
    assert "worker died: <SIGKILL>" in reasons


def test_exploration_alone_is_called_hypotheses(tmp_path):
    make_results(tmp_path, confirm=False)
    results = Results.open(tmp_path)
    found = quick(results)
    assert "Nothing is confirmed yet" in found.text and "so optimistic, and not confirmed" in found.text
    assert "Effects on fresh seeds" not in found.text and "No plan was made yet" in found.text
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "effects.png").write_bytes(b"of an older plan")
    build_report(tmp_path)
    drawn = {file.stem for file in (tmp_path / "figures").glob("*.???")}
    assert drawn == set(SHOWN) - {"effects", "effects-narrow", "confirm-curves", "confusion-1"}
    assert not (tmp_path / "effects.parquet").exists()


def test_without_clear_effects_nothing_is_claimed(tmp_path):
    make_results(tmp_path, seed_sd=0.05, faults=False)
    results = Results.open(tmp_path)
    findings = Findings(results)
    found, said = findings.effects, answer(findings)
    assert (found["verdict"] != "effect").all() and said.confirmed == []
    assert said.lead.startswith("None of 6 comparisons is a confirmed effect; 21 of 21 planned")
    assert "Not confirmed" in quick(results).text


def test_confirm_runs_that_have_not_ended_are_said_so(tmp_path, place):
    copy(place, tmp_path)
    trials = pq.read_table(place / "trials.parquet")
    pq.write_table(trials.filter(pc.field("phase") != "confirm"), tmp_path / "trials.parquet")
    text = quick(Results.open(tmp_path)).text
    assert "No comparison can be estimated yet: 0 of 21 planned confirm runs" in text
    copy(place, tmp_path)
    phases, statuses = trials["phase"].to_pylist(), trials["status"].to_pylist()
    rewrite(tmp_path, status=["running" if p == "confirm" else s for p, s in zip(phases, statuses, strict=True)])
    text = quick(Results.open(tmp_path)).text
    assert "had not ended when this report was made: 21 trials" in text


def test_times_under_sharing_are_said_to_be_unfit(tmp_path, place):
    copy(place, tmp_path)
    n = pq.read_table(place / "trials.parquet").num_rows
    rewrite(tmp_path, device_share=[0.25] * 3 + [1.0] * (n - 3))
    results = Results.open(tmp_path)
    found = quick(results)
    said = f"3 of {n:,} trials shared a device with others (0.25 of one each)"
    assert f"Times say nothing about speed here, and are no objective: {said}." in found.text
    (times,) = [drawing for drawing in gallery(Findings(results)) if drawing.name == "accuracy-time"]
    assert "Not fit to compare: 3 of" in times.caption
    assert "shared" not in quick(Results.open(place)).text


@pytest.mark.parametrize("absent", ["epochs", "rungs", "classes", "predictions", "trials"])
def test_an_absent_table_is_named_and_the_rest_is_shown(place, tmp_path, absent):
    copy(place, tmp_path, f"{absent}.parquet")
    found = quick(Results.open(tmp_path))
    assert f"Absent tables: {absent}." in found.text and "The plan" in found.text


def test_one_trial_one_seed_makes_a_report_without_intervals(tmp_path):
    study = default_study(search={"trials": 1, "epochs": 2}, confirm={"seeds": 1, "design": "one-factor"})
    make_results(tmp_path, study, faults=False)
    results = Results.open(tmp_path)
    said = answer(Findings(results))
    assert said.confirmed == [] and len(said.not_estimable) == 6
    text = quick(results).text
    assert "1 explore trial: 1 complete" in text and "no interval from one run" in text


def test_all_trials_lost_still_makes_a_report(tmp_path):
    make_results(tmp_path, default_study(search={"trials": 4, "epochs": 2}), confirm=False)
    nulls = [None] * 4
    rewrite(
        tmp_path, status=["failed"] * 4, val_accuracy=nulls, parameters=nulls, multiply_adds=nulls, epochs_run=[0] * 4
    )
    text = quick(Results.open(tmp_path)).text
    assert "No explore trial reached the full budget" in text and "4 failed" in text


def test_an_svg_in_the_page_takes_its_colours_and_keeps_its_own_identifiers(place):
    results = Results.open(place)
    drawing = next(drawing for drawing in gallery(Findings(results)) if drawing.name == "rungs")
    text = inline(render(drawing)["svg"], "one")
    assert text.startswith("<svg viewBox=") and text.rstrip().endswith("</svg>")
    assert all(colour not in text for colour in PALETTE.values()) and "var(--ink)" in text
    assert all(name.startswith("one-") for name in re.findall(r'\bid="([^"]+)"', text))


def test_the_effects_figure_cuts_intervals_that_would_hide_the_others():
    rows = [(f"f: {i} - 0", "f", str(i), "0", "change at the incumbent", 0.01, 0.008, 0.012) for i in range(4)]
    rows.append(("g: 1 - 0", "g", "1", "0", "change at the incumbent", 0.02, -0.5, 0.54))
    effects = pd.DataFrame(
        rows, columns=["name", "factor", "level", "reference", "estimand", "estimate", "low", "high"]
    )
    effects = effects.assign(verdict="inconclusive", n=3, n_reference=3, verdict_on="these images")
    ax = Figure().subplots()
    draw_effects(ax, effects, delta=0.5, metric=EFFECT)
    left, right = ax.get_xlim()
    assert right < 10 and left > -10  # not ±54 points
    assert [line.get_marker() for line in ax.lines if line.get_marker() in "<>"] == ["<", ">"]
    assert ax.get_xlabel() == "Effect on test accuracy (points)"


def test_words():
    row = next(
        pd.DataFrame(
            {
                "name": ["n"],
                "factor": ["a × b"],
                "level": ["5, on"],
                "reference": ["3, off"],
                "estimand": ["interaction"],
            }
        ).itertuples()
    )
    assert asked(row) == "a 5 × b on (interaction)"
    simple = row._replace(
        factor="kernel", level="5", reference="3", estimand="average over the other factors where blocks=2"
    )
    assert asked(simple) == "kernel 5 instead of 3 where blocks 2"
    assert signed(-0.0123) == "−1.23" and signed(0.004, unit=True) == "+0.40 points" and signed(None) == "–"
    assert [compact(v) for v in (950, 33_900, 11_181_642, None)] == ["950", "33.9k", "11.2M", "–"]
    assert [duration(s) for s in (0.81, 42, 725, 12_000)] == ["0.8 s", "42 s", "12 min 05 s", "3 h 20 min"]
    assert percents(0.816, 1.0106) == "81.60\u202f% … 100.00\u202f%" and percents(float("nan"), 1.0) == "–"
    assert p_value(0.0001) == "<0.001" and p_value(float("nan")) == "–"
    assert (
        settings({"kernel": 5, "momentum": None, "shortcut": True, "lr": 0.02082})
        == "kernel 5, shortcut on, lr 0.02082"
    )
