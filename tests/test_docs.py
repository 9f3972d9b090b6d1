"""The documentation works: studies are read, diffs applied, generated parts compared, links followed.

`make docs` runs every other code block too; here is what it does with blocks that must fail.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from resnetlab.experiment import own
from resnetlab.study import load_study

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

import check_blocks  # noqa: E402
import check_site  # noqa: E402
import generate  # noqa: E402

sys.path.remove(str(DOCS))
PAGES = sorted(page for part in (".", "docs", "cluster", "results") for page in (ROOT / part).glob("*.md"))

IDS = """
from pathlib import Path
from resnetlab.study import load_study

for name in ("default", "cnn"):
    plain = {"baseline.model": "cnn", "hypotheses": [], "confirm.design": "none"}
    plain["factors"] = {"lr": {"low": 0.1, "high": 1}}
    study = load_study(Path("default.yaml"), {} if name == "default" else plain)
    print(study.study_hash, study.baseline_config(0).trial_id)
"""
SWEEP = """
import numpy as np
from pathlib import Path
from sweeps_here import run_here
from resnetlab.report.build import build_report
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import load_study

draw = np.random.default_rng(0)
labels = np.arange(300) % 3
noise = draw.integers(0, 60, (300, 8, 8, 1))
np.savez("images.npz", images=(noise + 60 * labels[:, None, None, None]).astype("uint8"), labels=labels)
study = load_study(Path("study.yaml"))
ResultsFolder.at("results").write_json("study.json", study.recorded())
rows = run_here(study, Path("results"), Path("cache"))
page = build_report(Path("results")).read_text()
assert Path("results/figures/epoch-seconds.svg").exists() and 'epoch-seconds' in page
assert "A patience of 1 epochs" in page, "the rule is named"
print({row["status"] for row in rows if row["phase"] == "confirm"}, {row["halvings"] for row in rows})
"""
CLIP = """
from pathlib import Path
from resnetlab.study import load_study
from resnetlab.vision.data import prepare
from resnetlab.vision.training.loop import Training

study = load_study(Path("study.yaml"), {"factors.clip": {"levels": [0.0, 0.0001]}})
free, clipped = (study.config({"kernel": 5, "halvings": 1, "clip": clip}, seed=0) for clip in (0.0, 0.0001))
dataset = prepare(free.data, Path("cache"))
still, moved = (Training(config, dataset).run_epoch().train_loss for config in (clipped, free))
print(moved < 0.9 * still)
"""


def blocks(page, language):
    found = check_blocks.blocks(page, (ROOT / page).read_text())
    return [block for block in found if block.language == language]


def ran(place, program):
    """What a program prints, run with the package in `place`."""
    path = f"{place}:{ROOT / 'tests'}"
    env = {"PYTHONPATH": path, "PATH": "", "HOME": str(place), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=place, text=True, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(place):
    return {file.relative_to(place): file.read_bytes() for file in place.rglob("*") if file.suffix in (".py", ".toml")}


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here, which applies the diffs")
def test_a_model_a_dataset_a_rule_a_figure_and_a_setting_of_the_documentation_work(tmp_path):
    shutil.copytree(ROOT / "resnetlab", tmp_path / "resnetlab", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "sweeps/studies/default.yaml", tmp_path)
    ids, before = ran(tmp_path, IDS), contents(tmp_path / "resnetlab")
    files = [block for block in blocks("docs/extending.md", "python") if block.comment == "file"]
    assert len(files) == 4
    for block in files:
        (tmp_path / block.argument).write_text(block.text)
    after = contents(tmp_path / "resnetlab")
    assert len(after.keys() - before.keys()) == 4, "one file each"
    assert all(after[name] == content for name, content in before.items()), "and no other is changed"
    assert ran(tmp_path, IDS) == ids, "what was recorded keeps its ids"
    (tmp_path / "study.yaml").write_text(blocks("docs/extending.md", "yaml")[0].text)
    assert ran(tmp_path, SWEEP) == "{'complete'} {1, 2}\n"
    (diff,) = blocks("docs/extending.md", "diff")
    applied = subprocess.run(["git", "apply", "-"], input=diff.text, text=True, cwd=tmp_path, capture_output=True)
    assert applied.returncode == 0, applied.stderr
    assert ran(tmp_path, IDS) == ids and ran(tmp_path, CLIP) == "True\n"


def test_the_studies_of_the_documentation_are_read(tmp_path):
    studies = [block for page in check_blocks.PAGES for block in blocks(page, "yaml") if block.comment != "not run"]
    for block in [block for page in check_blocks.PAGES for block in blocks(page, "python") if block.comment == "file"]:
        (tmp_path / block.argument).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / block.argument).write_text(block.text)
    assert len(studies) >= 3
    for number, block in enumerate(studies):
        (tmp_path / f"study-{number}.yaml").write_text(block.text)
        assert own.load(tmp_path / f"study-{number}.yaml").declared, block.place


def test_the_study_of_the_readme_is_the_default_study_in_at_most_fifteen_lines(tmp_path):
    block, _ = blocks("README.md", "yaml")
    (tmp_path / "default.yaml").write_text(block.text)
    study, default = load_study(tmp_path / "default.yaml"), load_study(ROOT / "sweeps/studies/default.yaml")
    assert study.identity() | {"baseline": 0} == default.identity() | {"baseline": 0}
    assert study.baseline_config(0) == default.baseline_config(0) and study.declared == default.declared
    assert block.text.count("\n") <= 15


def test_the_own_study_of_the_readme_is_read_with_the_network_of_the_documentation(tmp_path):
    _, block = blocks("README.md", "yaml")
    (net,) = [block for block in blocks("docs/own-code.md", "python") if block.argument == "my_net.py"]
    (tmp_path / "my_net.py").write_text(net.text)
    (tmp_path / "own.yaml").write_text(block.text)
    assert own.load(tmp_path / "own.yaml").compared_factors() == ["norm"]


def test_the_readme_is_short():
    assert (ROOT / "README.md").read_text().count("\n") <= 140


@pytest.mark.parametrize(
    "page, command",
    [(page.name, part[3]) for page in generate.PAGES for part in generate.PART.finditer(page.read_text())],
)
def test_generated_parts_are_what_their_command_prints(page, command):
    (path,) = [path for path in generate.PAGES if path.name == page]
    parts = [part[0] for part in generate.PART.finditer(path.read_text()) if part[3] == command]
    text = generate.output(command)
    assert len(text.splitlines()) > 3
    assert all(
        part.partition("-->")[2].rpartition("<!--")[0].strip("`\n").removeprefix("text\n") == text for part in parts
    ), "run: python docs/generate.py"


def test_a_generated_part_that_is_out_of_date_is_filled(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- generated: echo new -->\nold\n<!-- end of generated -->\nb\n")
    assert generate.main(["--check", str(page)]) == 1 and "old" in page.read_text()
    assert generate.main([str(page)]) == 0
    assert page.read_text() == "a\n<!-- generated: echo new -->\n\nnew\n\n<!-- end of generated -->\nb\n"
    assert generate.main(["--check", str(page)]) == 0 and "out of date" in capsys.readouterr().out


def anchors(page):
    """The anchors that GitHub, and the site, give the headings of a page."""
    tokens = MarkdownIt().parse(page.read_text())
    titles = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", title).lower()).replace(" ", "-") for title in titles}


def targets(text):
    """What a page links to, and the pictures it shows."""
    for token in MarkdownIt().enable("table").parse(text):
        for child in token.children or [token]:
            yield from (child.attrs[name] for name in ("href", "src") if name in child.attrs)
            if child.type in ("html_inline", "html_block"):
                yield from re.findall(r'(?:src|href)="([^"]+)"', child.content)


def broken(page, text):
    """The links of a page that lead nowhere."""
    for target in targets(text):
        name, _, anchor = target.partition("#")
        if re.match(r"https?:|mailto:", name):
            continue
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            yield target


def test_links_and_anchors_lead_somewhere():
    linked = [target for page in PAGES for target in targets(page.read_text())]
    assert len(linked) > 45 and any("#" in target for target in linked)
    assert {page.name: found for page in PAGES if (found := list(broken(page, page.read_text())))} == {}


def test_files_of_the_package_that_pages_name_exist():
    pages = [page for page in PAGES if page.name not in ("LOG.md", "CHANGELOG.md")]
    named = {(page.name, path) for page in pages for path in re.findall(r"`(resnetlab/[\w/.]+)`", page.read_text())}
    assert len(named) > 15
    assert sorted(found for found in named if not (ROOT / found[1]).exists()) == []


def test_links_that_lead_nowhere_are_found():
    text = '[a](docs/none.md) [b](docs/study.md#data) [c](docs/study.md#none) ![d](e.png)\n\n<img src="f.png">'
    assert list(broken(ROOT / "README.md", text)) == ["docs/none.md", "docs/study.md#none", "e.png", "f.png"]


def test_every_block_has_a_language_that_is_checked_or_a_reason():
    for page in check_blocks.PAGES:
        for block in check_blocks.blocks(page, (ROOT / page).read_text()):
            known = ("python", "sh", "bash", "yaml", "diff", *check_blocks.NOT_CODE)
            assert block.language.startswith(known), block.place
            assert block.comment != "not run" or block.argument, block.place


def test_the_hosted_checks_call_targets_that_exist():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    steps = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    targets = {found for step in steps for found in re.findall(r"^make ([\w-]+)", step, re.MULTILINE)}
    assert targets == {"check", "test", "docs"}
    assert targets <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return check_blocks.workplace(tmp_path_factory.mktemp("workplace"))


@pytest.mark.parametrize(
    "text, done",
    [
        ("```python\nx = 1\n```\n\n```python\nassert x == 1\n```", ["executed", "executed"]),
        ("```python\nx = 1\n```\n\n```python\nassert x == 2\n```", ["executed", "failed"]),
        ("```sh\nls results/default/trials.parquet\n```", ["executed"]),
        ("```sh\nls results/nobody\nls\n```", ["failed"]),
        ("```yaml\nfactors: {kernels: {levels: [3, 5]}}\n```", ["failed"]),
        ("<!-- not run: slow -->\n```sh\nmake bench\npython sweeps/status.py --json x\n```", ["not run"]),
        ("<!-- not run: slow -->\n```sh\nmake nothing\n```", ["failed"]),
        ("<!-- not run: slow -->\n```sh\npython sweeps/nothing.py\n```", ["failed"]),
        ("<!-- not run: slow -->\n```sh\npython sweeps/status.py --nothing=1\n```", ["failed"]),
        ("<!-- not run -->\n```sh\nmake bench\n```", ["failed"]),
        ("```toml\na = 1\n```", ["failed"]),
        ("```diff\nnothing\n```", ["failed"]),
        ("```text\nanything\n```", []),
    ],
)
def test_a_block_that_does_not_run_fails(workplace, text, done):
    found = list(check_blocks.check("docs/page.md", text, workplace))
    assert [outcome.done for outcome in found] == done, [outcome.message for outcome in found]


@pytest.mark.parametrize(
    "name, text, found",
    [
        ("a.html", '<script src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
        ("b.html", '<link rel="stylesheet" href="//fonts.example/css">', ["//fonts.example/css"]),
        ("c.html", '<img src="http://example.org/x.png"><img src="x.png">', ["http://example.org/x.png"]),
        ("d.html", '<a href="https://example.org">a link is not loaded</a><script src="_static/x.js"></script>', []),
        ("e.css", '@import "https://fonts.example/css"; a {background: url(x.png)}', ["https://fonts.example/css"]),
    ],
)
def test_what_a_page_would_load_from_elsewhere_is_found(tmp_path, name, text, found):
    (tmp_path / name).write_text(text)
    assert check_site.loads(tmp_path / name) == found
    assert check_site.main(str(tmp_path)) == bool(found)


def absent(text):
    """Files and names between backticks that the repository does not have."""
    source = "\n".join(file.read_text() for file in (ROOT / "resnetlab").rglob("*.py"))
    named = set(re.findall(r"`([A-Za-z_][\w.]*)`", text))
    files = {name for name in named if name.endswith(".py")} | set(re.findall(r"`([\w.]+/[\w./]*\.\w+)`", text))
    places = (ROOT, ROOT / "resnetlab")
    gone = {
        file
        for file in files
        if not any((place / file).exists() for place in places) and ("/" in file or not list(ROOT.rglob(f"*/{file}")))
    }
    return gone | {name for name in named - files if not re.search(rf"\b{re.escape(name.split('.')[-1])}\b", source)}


def test_what_contributing_names_is_there():
    assert absent("`Study._check_sampler` in `study/study.py`, `study/gone.py`, `gone.py`") == {
        "Study._check_sampler",
        "study/gone.py",
        "gone.py",
    }
    assert absent((ROOT / "CONTRIBUTING.md").read_text()) == set()
