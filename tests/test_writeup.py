"""What is exported for papers: tables that equal the report's, LaTeX that compiles, Markdown that is text; archives
that are refused where a byte is altered."""

import csv
import io
import os
import random
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_results import default_study, make_results
from markdown_it import MarkdownIt
from test_looks_report import made as swept
from test_looks_sweep import study as looked

from resnetlab.analysis.results import Results
from resnetlab.errors import BadData, BadRequest
from resnetlab.report.findings import Findings
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table, write_table
from resnetlab.writeup import archive, documents, methods
from resnetlab.writeup.markup import LATEX_HEAD, latex, markdown
from resnetlab.writeup.rendering import cited, latex_table, markdown_table
from resnetlab.writeup.tables import Column, PaperTable, tables

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"
TITLE = r"\input{/etc/passwd} <script>alert(1)</script> 100% & #1 $x_1^2$ ~ {ü} 中 λ −× `` -- | *b* [l](u)"


def _style(name: str) -> bool:
    return (
        bool(shutil.which("kpsewhich"))
        and not subprocess.run(["kpsewhich", name], stdout=subprocess.DEVNULL).returncode
    )


needs_latex = pytest.mark.skipif(
    not (shutil.which("pdflatex") and shutil.which("pdftotext") and _style("siunitx.sty") and _style("booktabs.sty")),
    reason="no pdflatex with booktabs and siunitx, or no pdftotext, here: tests/debian.sh installs them",
)


def compiled(folder: Path, name: str = "paper", bibtex: bool = False) -> str:
    """The text of the PDF that LaTeX makes of `name.tex`; stops at its first error."""

    def ran(*words: str) -> str:
        env = os.environ | {"openin_any": "p", "TEXMFVAR": str(folder / "var")}  # reads nothing above the folder
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120, env=env)
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    once = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", name]
    ran(*once)
    if bibtex:
        assert "Warning" not in ran("bibtex", name)
        ran(*once)
    said = ran(*once)
    assert not re.search(r"undefined|multiply defined|Missing character", said)
    ran("pdftotext", "-layout", f"{name}.pdf")
    return (folder / f"{name}.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Findings:
    """Of a study whose title and question have markup of every kind."""
    place = tmp_path_factory.mktemp("hostile") / "made"
    study = default_study(title=TITLE, question=TITLE, hypotheses=["kernel 5 > kernel 3 by at least 0.5 points"])
    make_results(place, study)
    return Findings(Results.open(place))


@pytest.fixture(scope="module")
def reference() -> Findings:
    return Findings(Results.open(REFERENCE / "default"))


@needs_latex
@pytest.mark.parametrize("encoding", ["", r"\usepackage[OT1]{fontenc}"])
def test_latex_prints_every_character_and_obeys_none(tmp_path, encoding):
    printed = [r"\input{/etc/passwd}", "100% & #1_$x^2~ {a}", 'a<b>c|d"e`f[g]', "r--s---t", r"\\ \end{document}", "%%"]
    others = [
        "Ångström naïve Čapek Łódź straße",
        "αβγδ ΔΩ µ",
        "中文 Ж א ħ",
        "−1 × 2 ± 3 … ≥ ≤ →",
        "a\x00b\x1bc\nd",
        "e\u202ef",
    ]
    others += ["\udc80x", "¿?` !` ‘’ “” –—", "ﬁ ﬀ", "\U0001f600", "a\u0301\u0323", "ő ą ğ ī ů ė", "½ € £ ‰ ©"]
    lines = "\n\n".join(rf"\mbox{{{latex(text)}}}" for text in [*printed, *others])
    body = rf"{LATEX_HEAD}\documentclass{{article}}{encoding}\begin{{document}}{lines}" + "\n\nlast\n\\end{document}"
    (tmp_path / "paper.tex").write_text(body, encoding="utf-8")
    text = compiled(tmp_path)
    # The underscore is a rule, and these marks are accents, in LaTeX's default fonts.
    text = text.replace(" ", "").replace("\n", "").replace("ˆ", "^").replace("˜", "~").replace("’", "'")
    for wanted in (*printed, "last", "–—", "[U+4E2D]", "[U+0000]", "[U+202E]", "[U+DC80]"):
        assert wanted.replace('"', "”").replace("_", "").replace(" ", "") in text, wanted


@needs_latex
def test_a_study_with_markup_in_its_title_compiles_and_shows_its_numbers(tmp_path, hostile):
    documents.write(documents.as_latex(hostile), tmp_path)
    text = compiled(tmp_path, bibtex=True)
    assert "input{/etc/passwd}" in text and "root:" not in text
    assert "Holm" in text and "References" in text and "Optuna" in text
    for row in hostile.effects.itertuples(index=False):
        if not np.isnan(row.estimate):
            assert f"{100 * row.estimate:+.2f}".replace("-", "−") in text
            assert f"{100 * row.low:+.2f}".replace("-", "−") in text


@needs_latex
@pytest.mark.parametrize("name", ["default", "font-transfer", "structure-ablation", "resnet-vs-cnn", "digits-looks"])
def test_the_reference_studies_compile_on_the_page(tmp_path, name):
    documents.write(documents.as_latex(Findings(Results.open(REFERENCE / name))), tmp_path)
    compiled(tmp_path, bibtex=True)
    log = (tmp_path / "paper.log").read_text(encoding="utf-8", errors="replace")
    wide = [float(found) for found in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\) in alignment", log)]
    wide += [
        float(found) for found in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\) in paragraph at lines 10", log)
    ]
    assert not [points for points in wide if points > 6], log  # tables


def test_a_table_of_hostile_cells_has_no_cell_more(tmp_path):
    names = ["a & b", "c \\\\ d", "e | f", "<b>g</b>", "**h**", "i\nj", "{k", "中 λ", ""]
    rows = [[name, -1.234, None, "effect"] for name in names]
    columns = [Column("A & B"), Column("x (µ%)", 2, signed=True, group="g_1"), Column("p", 3, p=True), Column("V")]
    table = PaperTable("t", "cap_tion & {more", columns, rows, pd.DataFrame(), ["re_mark & more"])
    body = latex_table(table).partition("\\midrule")[2].partition("\\bottomrule")[0]
    lines = [line for line in body.strip().splitlines()]
    assert len(lines) == len(names) and all(len(re.findall(r"(?<!\\)&", line)) == 3 for line in lines)
    html = MarkdownIt().enable("table").render(markdown_table(table))
    assert html.count("<tr>") == len(names) + 1 and html.count("<td") == 4 * len(names)
    assert "<b>" not in html and "<strong>" not in html and "&lt;b&gt;g&lt;/b&gt;" in html
    if shutil.which("pdflatex") and _style("siunitx.sty"):
        head = r"\documentclass{article}\usepackage{booktabs,siunitx}\begin{document}"
        (tmp_path / "paper.tex").write_text(f"{head}{latex_table(table)}\\end{{document}}", encoding="utf-8")
        assert "more" in compiled(tmp_path)


def test_markdown_is_read_as_the_text_that_it_was():
    for text in (TITLE, "*a* _b_ [c](d) <e> `f` #g & h ~i~ ^j^ $k$ @l !m", "a | b"):
        html = MarkdownIt().render(markdown(text))
        inner = html.removeprefix("<p>").removesuffix("</p>\n")
        assert not re.search(r"<(?!/?p>)", inner)


def test_csv_has_every_digit_of_the_effects(reference):
    found = list(csv.DictReader(io.StringIO(documents.as_csv(reference)["effects.csv"])))
    held = reference.effects.set_index("name")
    assert len(found) == len(held)
    for row in found:
        for column in ("estimate", "low", "high", "p_adjusted", "standard_error"):
            assert float(row[column]) == held.loc[row["name"], column]


def test_captions_say_n_the_interval_and_the_plan(reference):
    made = {table.name: table for table in tables(reference)}
    assert set(made) == {"effects", "arms", "hypotheses"}
    assert "n\u00a0=\u00a012 runs with the level and 12 with the reference" in made["effects"].caption
    assert "95% confidence intervals" in made["effects"].caption
    assert all(reference.results.plan.plan_hash in table.caption for table in made.values())
    columns = [column.heading for column in made["effects"].columns]
    assert columns == ["Comparison", "estimate", "low", "high", "p", "Verdict"]


def test_n_is_a_column_where_it_differs(hostile):
    assert len(set(zip(hostile.effects["n"], hostile.effects["n_reference"], strict=True))) > 1
    effects = tables(hostile)[0]
    assert [column.heading for column in effects.columns if column.group == "n"] == ["level", "ref."]
    assert "n\u00a0=" not in effects.caption


@pytest.mark.parametrize("name", ["default", "font-transfer", "structure-ablation", "resnet-vs-cnn"])
def test_every_citation_has_its_entry_and_no_entry_is_idle(name):
    findings = Findings(Results.open(REFERENCE / name))
    keys = cited(methods.paragraphs(findings))
    entries = re.findall(r"^@\w+\{([\w]+),", methods.bibliography(findings, keys), re.MULTILINE)
    assert sorted(keys) == entries and "resnetlab" in keys
    assert ("li2020system" in keys) == (not findings.results.study.arms)
    assert "VERSION" not in methods.bibliography(findings, keys) and "YEAR" not in methods.bibliography(findings, keys)


def test_the_methods_and_the_checklist_are_those_of_the_record(reference):
    files = documents.as_markdown(reference)
    sweep = reference.results.sweep
    assert sweep["versions"]["torch"] in files["methods.md"]
    assert reference.results.planned.plan_hash[:16] in files["methods.md"]
    assert "8 arms on the same 3 fresh seeds" in files["methods.md"]
    seeds = reference.results.confirm["seed"].unique()
    assert all(str(seed) in files["checklist.md"] for seed in seeds)
    for term in ("Data", "Splits", "Seeds", "Hardware", "Compute", "Commands"):
        assert f"**{term}**" in files["checklist.md"]


def test_a_folder_without_a_plan_is_refused(tmp_path):
    make_results(tmp_path / "made", default_study(), confirm=False)
    with pytest.raises(BadRequest, match="nothing to write up"):
        documents.planned(Findings(Results.open(tmp_path / "made")))


# What is said of plans of other kinds


def written(findings) -> dict[str, str]:
    """The Markdown files by name without its ending, as plain text."""
    return {name.partition(".")[0]: text.replace("\\", "") for name, text in documents.as_markdown(findings).items()}


def made_with(place, faults=True, **confirm) -> Findings:
    make_results(place, default_study(confirm={"seeds": 3, "design": "one-factor"} | confirm), faults=faults)
    return Findings(Results.open(place))


def cells(findings, name) -> list[list]:
    return [list(row) for table in tables(findings) if table.name == name for row in table.rows]


def test_intervals_of_effects_and_arms_are_on_the_images_that_verdicts_are_about(reference, tmp_path):
    these = made_with(tmp_path / "these", images="these")
    for findings, on, low in (
        (reference, "on new images of the same kind", "low_new"),
        (these, "on these test", "low"),
    ):
        text = written(findings)
        assert all(f"intervals {on}" in text[name] for name in ("effects", "arms", "methods"))
        wanted = 100 * findings.performance[low].clip(lower=0)
        assert [row[2] for row in cells(findings, "arms")] == pytest.approx(wanted.tolist())
    assert (reference.performance["low"] != reference.performance["low_new"]).any()
    assert "augmentation and the choice of the test images, not that of the training" in written(reference)["checklist"]
    assert "augmentation, not the choice of the test images or of" in written(these)["checklist"]


def test_where_predictions_of_some_arms_are_lost_each_interval_says_its_images(tmp_path):
    findings = made_with(tmp_path / "made", faults=False)
    results = findings.results
    lost = results.confirm.loc[results.confirm["arm"] == "kernel=5", "trial_id"]
    predictions = results.predictions[~results.predictions["trial_id"].isin(lost)]
    assert len(lost) and len(predictions)
    findings = Findings(replace(results, predictions=predictions))
    named = {row[0]: row[4] for row in cells(findings, "effects")}
    assert {on for name, on in named.items() if name.startswith("kernel")} == {"these images"}
    assert {on for name, on in named.items() if not name.startswith("kernel")} == {"new images"}
    assert {row[0]: row[4] for row in cells(findings, "arms")}["kernel=5"] == "these images"
    assert (
        "as each row says" in written(findings)["effects"]
        and "as the effects table says" in written(findings)["checklist"]
    )


def test_around_the_baseline_the_search_chose_nothing_that_is_compared(tmp_path):
    text = written(made_with(tmp_path / "made", around="baseline"))
    assert "one factor at a time around the baseline of the study file" in text["methods"]
    assert (
        "it chose no level that is compared, but for tuned settings that go with some of them (lr)" in text["methods"]
    )
    assert "The search chose no level that is compared: the design is laid around the baseline" in text["checklist"]
    assert "incumbent" not in text["methods"] + text["checklist"] and "The best of" not in text["checklist"]


def test_with_splits_drawn_again_nobody_says_that_the_search_saw_no_test_data(tmp_path, reference):
    findings = made_with(tmp_path / "made", splits="per-block")
    text = written(findings)
    assert "saw no test data" not in text["methods"] and "saw no test data" in written(reference)["methods"]
    for name in ("methods", "checklist"):
        assert "test images of a block may have been training or validation images of the search" in text[name]
    assert all(str(seed) in text["checklist"] for seed in findings.results.confirm["split_seed"].unique())
    assert "over splits drawn again" in text["effects"] and "over splits drawn again" in text["arms"]
    assert "how these data are split" in text["checklist"]


def test_methods_tell_of_the_looks_and_the_checklist_of_the_seeds_that_ran():
    findings = Findings(Results.open(REFERENCE / "digits-looks"))
    text = written(findings)
    for said in (
        "of 16 blocks at most",
        "type of O'Brien and Fleming [@lan1983discrete]",
        "adjusted by Holm's method across the comparisons of a family [@maurer2013multiple]",
        "Primary comparisons: kernel: 5 - 3 and shortcut: on - off",
        "futility is non-binding",
        "Looked after 10 of 16 blocks",
        "Of at most 64 runs the looks have asked for 40",
        "each at half of what a two-sided 10% may spend",
    ):
        assert said in text["methods"], said
    assert "set again" not in text["methods"] and "5% tests" not in text["methods"]
    assert "over 10 seeds an arm of at most 16 planned" in text["checklist"]
    assert "4 arms × at most 16 seeds" in text["checklist"] and "4 arms of at most 16 seeds" in text["effects"]
    keys = cited(methods.paragraphs(findings))
    assert sorted(keys) == re.findall(r"^@\w+\{([\w]+),", methods.bibliography(findings, keys), re.MULTILINE)


def test_methods_tell_of_seeds_that_were_set_again_and_of_primaries(tmp_path):
    findings = swept(tmp_path, looked({"reestimate": True, "primaries": ["kernel"]}))
    said = written(findings)["methods"]
    blocks = findings.looks.course.blocks[0]
    assert f"blind to their means; they became {blocks}; as this spread" in said and "92% of each error rate" in said
    assert "Holm over the primary comparisons, all interactions and all other main effects, each by itself" in said
    rows = findings.effects.set_index("name")
    assert "Holm over the primary comparisons, " in rows.method["kernel: 5 - 3"]
    assert "Holm over all other main effects, " in rows.method["blocks: 2 - 3"]
    assert "Holm over all interactions, " in rows.method["blocks × kernel: (2 - 3) × (5 - 3)"]
    assert rows.low_adjusted.equals(rows.low)  # each is alone in its family


def test_where_arms_stop_alone_the_checklist_says_how_many_seeds_each_had(tmp_path):
    arms = {"plain": {}, "wide": {"width": 32}, "deep": {"blocks": 4}}
    findings = swept(tmp_path, looked({"variance": "blocks"}, arms=arms))
    text, n = written(findings), findings.performance["n"]
    assert n.min() < n.max() <= 8
    assert f"over {n.min()} to {n.max()} seeds an arm of at most 8 planned" in text["checklist"]
    assert "share, or its own at a look before which an arm had stopped or lost a run" in text["checklist"]
    own = "fewer than three arms still ran, so the arms' own variances are taken"
    alone = [
        (own in row.note, "about what the arms of a seed share" in row.method) for row in findings.effects.itertuples()
    ]
    assert (True, False) in alone and (False, True) in alone and len(set(alone)) == 2
    assert "An arm stops once its comparisons are settled" in text["methods"]


def test_two_arms_have_their_own_variances_whatever_the_plan_asks_for(tmp_path):
    arms = {"plain": {}, "wide": {"width": 32}}
    text = written(swept(tmp_path, looked({"looks": "none", "seeds": 3, "variance": "blocks"}, arms=arms)))
    assert "(t, each arm's own variance, not that about what all arms of a seed share: two arms" in text["checklist"]
    assert "Method: difference of means, Welch's t; variance: each arm's own" in text["effects"]


def test_of_a_task_of_its_own_nothing_is_said_about_images(tmp_path):
    findings = made_with(tmp_path / "made", images="these")
    study = findings.results.study.model_copy(update={"experiment": "mine.py:train"})
    text = written(Findings(replace(findings.results, study=study)))
    for name in ("effects", "arms", "methods"):
        assert "intervals over seeds, which hold the spread between seeds alone" in text[name]
        assert "images" not in text[name].replace("test images of 20", "")
    assert "They cover what the seeds of a run decide, and nothing else" in text["checklist"]


@pytest.mark.parametrize(
    ("faults", "said", "method"),
    [
        (
            False,
            "each arm's variance about what all arms of a seed share",
            "Welch's t about what the arms of a seed share",
        ),
        (True, "not that about what all arms of a seed share: runs are missing", "Welch's t; variance: each arm's own"),
    ],
)
def test_variances_about_blocks_are_said_to_be_these_where_they_are(tmp_path, faults, said, method):
    text = written(made_with(tmp_path / "made", faults, variance="blocks"))
    assert all(said in text[name] for name in ("methods", "checklist", "effects")) and method in text["effects"]
    assert ("own variance" in text["checklist"]) == faults


def test_captions_say_the_method_of_the_effects_table(reference, hostile):
    for findings in (reference, hostile):
        (method,) = {name.partition(", Holm")[0] for name in findings.effects["method"]} - {"none"}
        assert f"Method: {method}" in written(findings)["effects"]
    assert "Welch's t" not in written(reference)["effects"]


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> tuple[Findings, Findings]:
    """A study with a plan that ended, and the same with four seeds more."""
    place = tmp_path_factory.mktemp("extended")
    arms = {"plain": {}, "wide": {"width": 32}, "deep": {"blocks": 4}}
    return tuple(swept(place, looked({"looks": "none", "seeds": seeds}, arms=arms)) for seeds in (3, 7))


def test_an_extended_study_has_the_verdicts_of_its_earlier_plan(extended):
    first, second = extended
    old, new = (findings.results.plan.plan_hash for findings in extended)
    text = written(second)
    assert old in text["methods"] and "had run to their end before it" in text["methods"]
    held = first.effects.set_index("name")
    for name, row in second.earlier.set_index("name").iterrows():
        assert row[["verdict", "verdict_on", "low", "high"]].equals(
            held.loc[name, ["verdict", "verdict_on", "low", "high"]]
        )
    rows = cells(second, "earlier")
    assert {(row[0], row[1]) for row in rows} == {
        (asked, plan) for asked in ("wide instead of plain", "deep instead of plain") for plan in (old, "together")
    }
    assert {row[0]: row[-1] for row in rows if row[1] == old} == {
        row[0]: row[-1].strip(" *") for row in cells(first, "effects")
    }
    assert f"{old} on 3 seeds (familywise error rate 0.05); their verdicts stand" in text["earlier"]
    assert f"plan {new} included" in text["earlier"] and "gives no verdict" in text["earlier"]
    assert "earlier" not in written(first) and old in documents.as_csv(second)["earlier.csv"]


def test_what_plans_say_together_is_on_the_images_that_they_share(extended):
    second = extended[1]
    results = replace(second.results, predictions=second.results.predictions.iloc[:0])
    without, found = Findings(results).earlier, second.earlier
    names = ["pooled", "pooled_low", "pooled_high"]
    assert found[names].equals(without[names]) and found["pooled"].notna().all()
    assert set(found["verdict_on"]) == {"new images"} and set(without["verdict_on"]) == {"these images"}


def test_archives_of_extended_studies_and_around_the_baseline_pass(tmp_path, extended):
    archive.write(extended[1], tmp_path / "a.zip")
    assert "earlier.csv" in archive.verify(tmp_path / "a.zip").lines[-1]
    archive.write(made_with(tmp_path / "made", around="baseline"), tmp_path / "b.zip")
    assert archive.verify(tmp_path / "b.zip").study == "made"

    def other(data: bytes) -> bytes:
        return data.replace(b'"kernel": 3', b'"kernel": 5', 1)

    with pytest.raises(BadData, match="was laid around other settings than the baseline"):
        archive.verify(forged(tmp_path / "b.zip", {"study.json": other}, tmp_path))


@needs_latex
def test_the_table_of_earlier_plans_fits_the_page(tmp_path, extended):
    documents.write(documents.as_latex(extended[1]), tmp_path)
    assert "together" in compiled(tmp_path, bibtex=True)
    log = (tmp_path / "paper.log").read_text(encoding="utf-8", errors="replace")
    assert not [x for x in re.findall(r"\(([\d.]+)pt too wide\) in paragraph at lines 10", log) if float(x) > 6], log


def test_counts_of_all_trials_have_one_space(reference):
    assert "All trials of the study: 34 trials: " in written(reference)["checklist"]


# Archives


@pytest.fixture(scope="module")
def good(tmp_path_factory, hostile) -> Path:
    file = tmp_path_factory.mktemp("archive") / "made.zip"
    archive.write(hostile, file)
    return file


def test_an_archive_is_right_and_the_same_each_time(good, hostile, tmp_path):
    checked = archive.verify(good)
    assert checked.sha256 == sha256(good.read_bytes()).hexdigest() == archive.write(hostile, tmp_path / "again.zip")
    assert [line.partition(":")[0] for line in checked.lines] == [
        "hashes", "plan before evidence", "effects", "report", "tables",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["default", "font-transfer", "structure-ablation", "resnet-vs-cnn", "resnet50-vs-scratch"]
)
def test_the_reference_studies_pass(tmp_path, name):
    archive.write(Findings(Results.open(REFERENCE / name)), tmp_path / "a.zip")
    assert archive.verify(tmp_path / "a.zip").study == name


def test_sha256sum_says_the_same(good, tmp_path):
    with zipfile.ZipFile(good) as file:
        file.extractall(tmp_path)
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "FAILED" not in done.stdout


def test_any_altered_byte_is_refused_with_its_name(good):
    data = good.read_bytes()
    with zipfile.ZipFile(good) as file:
        names, starts = [info.filename for info in file.infolist()], [info.header_offset for info in file.infolist()]
        index = file.start_dir
    places = [start + i for start in starts[:6] for i in range(31)] + list(range(index, index + 150))
    places += [*range(len(data) - 30, len(data)), *random.Random(0).sample(range(len(data)), 150)]
    for place in places:
        altered = bytearray(data)
        altered[place] ^= 1 << (place % 8)
        with pytest.raises(BadData, match=r"^made\.zip: ") as refused:
            archive.unzipped(bytes(altered), "made.zip")
        owner = max((start, name) for start, name in zip(starts, names, strict=True) if start <= place)[1]
        inside = place < index and place >= dict(zip(names, starts, strict=True))[owner] + 30 + len(owner)
        if inside and owner != "SHA256SUMS":
            assert owner in str(refused.value), place
    for more in (data + b"x", data[:-1], b"x" + data, b"", b"PK"):
        with pytest.raises(BadData, match=r"^made\.zip: "):
            archive.unzipped(more, "made.zip")


def forged(good: Path, changes, tmp_path: Path) -> Path:
    """The archive with some members changed and every hash made anew, as somebody would who knows how."""
    content = archive.unzipped(good.read_bytes(), "good")
    for name, change in changes.items():
        made = change(content[name]) if callable(change) else change
        if made is None:
            del content[name]
        else:
            content[name] = made
    file = tmp_path / "forged.zip"
    file.write_bytes(archive.zipped(content))
    return file


def in_table(table: str, change):
    """A member that is a table, with its rows changed, its checksum made anew."""

    def changed(data: bytes) -> bytes:
        import tempfile

        with tempfile.TemporaryDirectory() as place:
            (Path(place) / f"{table}.parquet").write_bytes(data)
            rows = read_table(ResultsFolder.at(place), table)
            frame = rows.to_pandas()
            change(frame)
            write_table(ResultsFolder.at(place), table, pa.Table.from_pandas(frame, rows.schema, preserve_index=False))
            return (Path(place) / f"{table}.parquet").read_bytes()

    return changed


def _better(frame: pd.DataFrame) -> None:
    rows = (frame["phase"] == "confirm") & (frame["arm"] == "kernel=3") & (frame["status"] == "complete")
    rows |= (frame["phase"] == "confirm") & (frame["arm"] == "kernel=5") & (frame["status"] == "complete")
    assert rows.any()
    frame.loc[rows, "test_accuracy"] += 0.01


def _other_seed(frame: pd.DataFrame) -> None:
    frame.loc[frame.index[frame["phase"] == "confirm"][0], "seed"] += 1


def _early(frame: pd.DataFrame) -> None:
    frame.loc[frame.index[frame["phase"] == "confirm"][0], "started"] = frame["started"].min() - pd.Timedelta("1h")


def _other_best(frame: pd.DataFrame) -> None:
    which = (frame["phase"] == "explore") & (frame["status"] == "complete")
    worst = frame.loc[which, "val_accuracy"].idxmin()
    frame.loc[worst, "val_accuracy"] = 0.999


def _effect(frame: pd.DataFrame) -> None:
    frame.loc[0, "estimate"] += 1e-4


def _larger(data: bytes) -> bytes:
    """The report with another digit in each positive effect below a point."""
    return re.sub(rb"(<td[^>]*>\+0\.)(\d)", lambda found: found[1] + b"%d" % ((int(found[2]) + 1) % 10), data)


def _wider(data: bytes) -> bytes:
    """The plan with a larger smallest effect of interest."""
    return data.replace(b'"delta": 0.5', b'"delta": 5.0')


def _without_hash(data: bytes) -> bytes:
    return re.sub(rb',\s*"plan_hash": "\w+"', b"", _wider(data))


def _bolder(data: bytes) -> bytes:
    return data.replace(b"inconclusive", b"effect", 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trials.parquet": in_table("trials", _better)}, r"effects\.parquet: kernel"),
        ({"trials.parquet": in_table("trials", _other_seed)}, r"trials\.parquet: trial \w+ is no run that plan"),
        ({"trials.parquet": in_table("trials", _early)}, r"trials\.parquet: a confirm run began at .* before the"),
        ({"trials.parquet": in_table("trials", _other_best)}, r"plan\.json: was laid around trial"),
        ({"effects.parquet": in_table("effects", _effect)}, r"effects\.parquet: .*, estimate: not what"),
        ({"effects.parquet": None}, r"effects\.parquet: is missing"),
        ({"report.html": None}, r"report\.html: is missing"),
        ({"report.html": _larger}, r"report\.html: .*: its tables are not those"),
        ({"tables/effects.csv": _bolder}, r"tables/effects\.csv: .*verdict"),
        ({"tables/arms.csv": None}, r"tables/arms\.csv: is missing"),
        ({"plan.json": None}, r"plan\.json: is missing"),
        ({"plan.json": _wider}, r"plan\.json: was changed"),
        ({"plan.json": _without_hash}, r"trials\.parquet: no run of plan"),
        ({"study.json": None}, r"study\.json"),
        ({"study.json": lambda data: data[:100]}, r"study\.json: damaged"),
    ],
)  # fmt: skip
def test_what_was_made_anew_to_say_something_else_is_refused(good, tmp_path, changes, said):
    with pytest.raises(BadData, match=rf"forged\.zip: {said}"):
        archive.verify(forged(good, changes, tmp_path))


def test_other_zip_files_are_refused(good, tmp_path):
    content = archive.unzipped(good.read_bytes(), "good")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in content.items():
            file.writestr(name, data)
    with pytest.raises(BadData, match="compressed"):
        archive.verify(tmp_path / "packed.zip")
    for name in ("../evil", "/etc/evil", "a\\b", "a//b", "c:d"):
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
            file.writestr(name, b"x")
        with pytest.raises(BadData, match="is no name of a file"):
            archive.verify(tmp_path / "evil.zip")
    assert not (tmp_path.parent / "evil").exists()
    for clash in ({"report.html/x": b"y"}, {"n" * 300: b"y"}):
        (tmp_path / "clash.zip").write_bytes(archive.zipped(content | clash))
        with pytest.raises(BadData, match="cannot be unpacked"):
            archive.verify(tmp_path / "clash.zip")
    with pytest.raises(BadRequest, match="cannot be read"):
        archive.verify(tmp_path / "nowhere.zip")


def test_the_commands(tmp_path):
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=300,
        )

    export, verify = (str(ROOT / "sweeps" / name) for name in ("export.py", "verify.py"))
    done = run(export, str(REFERENCE / "resnet-vs-cnn"), "--latex", "--csv", "--archive", "a.zip")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "resnet-vs-cnn-paper" / "effects.tex").exists()
    said = done.stdout.splitlines()[-1].partition("check it with: ")[2]
    assert said.endswith("verify.py a.zip")
    checked = run(verify, "a.zip")
    assert checked.returncode == 0 and "resnet-vs-cnn: all checks passed" in checked.stdout
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    refused = run(verify, "a.zip")
    assert refused.returncode == 3 and refused.stderr.startswith("error: ") and "a.zip: " in refused.stderr
    assert run(export, str(REFERENCE / "resnet-vs-cnn"), "--output", "x").returncode == 2
    assert run(export, str(REFERENCE / "resnet-vs-cnn")).returncode == 2
    assert run(export, str(REFERENCE / "resnet-vs-cnn"), "--archive", "a.tar").returncode == 2


def test_tables_in_the_archive_are_readable_by_others(good, tmp_path):
    content = archive.unzipped(good.read_bytes(), "good")
    assert len(pq.read_table(io.BytesIO(content["trials.parquet"]))) and b"<html" in content["report.html"]
