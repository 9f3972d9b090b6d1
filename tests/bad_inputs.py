"""All bad inputs that are tested, with the exit code and the words that each message must have.

    python tests/bad_inputs.py         the table: what was given, its code, its seconds, its message

A case makes what it needs in an empty folder and returns the words of a command line that is run there.
"""

from __future__ import annotations

import atexit
import inspect
import json
import os
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from doors import Door, Ended, tree
from made_results import default_study, make_results
from PIL import Image
from sweeps_here import run_here
from test_hostile_tables import constant, epochs

from resnetlab.analysis.results import Results
from resnetlab.driver.checks.dataset_record import compared
from resnetlab.experiment import own
from resnetlab.report.findings import Findings
from resnetlab.storage.lease import Lease
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.schema import schema
from resnetlab.study.data_config import DataConfig
from resnetlab.sweep.task import data_key
from resnetlab.vision.data import prepare
from resnetlab.writeup.archive import members, zipped

GOOD = """
dataset: {name: glyphs, variants: 1}
factors:
  kernel: {levels: [3, 5]}
search: {trials: 2, epochs: 2}
"""
RANGE = GOOD.replace("kernel: {levels: [3, 5]}", "lr: {low: 0.01, high: 0.1, log: true}")
RANGE += "confirm: {design: none}"
BOMB = "a: &a [x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{two}'] * 9)}]\n" for one, two in zip("bcdefghij", "abcdefghi", strict=True)
)
SECRET = "hunter2"


@dataclass(frozen=True)
class Case:
    code: int
    words: tuple[str, ...]
    command: Callable[[Path], list[str]]
    script: str = "ablation"
    never: str = ""  # what must not be echoed


def study(text: str | bytes, *words: str) -> Case:
    def command(place: Path) -> list[str]:
        (place / "mine.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["--study", "mine.yaml"]

    return Case(2, ("mine.yaml", *words), command)


def options(given: list[str], *words: str, never: str = "", script: str = "ablation") -> Case:
    return Case(2, words, lambda place: given, script, never)


def data(make: Callable[[Path], str], *words: str) -> Case:
    """`make` leaves data in a folder and says what stands behind `dataset:`."""

    def command(place: Path) -> list[str]:
        (place / "mine.yaml").write_text(GOOD.replace("{name: glyphs, variants: 1}", f"{{{make(place)}}}"))
        return ["--study", "mine.yaml"]

    return Case(3, words, command)


def table(make: Callable[[Path], None], *words: str, code: int = 4) -> Case:
    """`make` spoils the results folder that it is given, of which a report is asked."""

    def command(place: Path) -> list[str]:
        make(results(place))
        return ["results/made"]

    return Case(code, ("results/made", *words), command, "report")


def images(place: Path, spoil: Callable[[Path], object] = lambda root: None) -> str:
    for name in ("cat", "dog"):
        (place / "images/train" / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (8, 8), (number * 20, 0, 0)).save(place / f"images/train/{name}/{number}.png")
    spoil(place / "images")
    return "name: folder, root: images"


def cut(path: Path, size: int = 45) -> None:
    path.write_bytes(path.read_bytes()[:size])


def archive(place: Path, *members: tuple[str | zipfile.ZipInfo, str]) -> str:
    with zipfile.ZipFile(place / "fonts.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in members:
            file.writestr(name, text)
    return "name: character-fonts, root: fonts.zip"


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def font(*pixels: str, name: str = "AGENCY") -> tuple[str, str]:
    columns = [f"r{row}c{column}" for row in range(20) for column in range(20)]
    values = [*pixels, *["0"] * (400 - len(pixels))]
    return "A.csv", f"font,m_label,h,w,{','.join(columns)}\n{name},65,20,20,{','.join(values)}\n"


def web_page(place: Path) -> str:
    (place / "fonts.zip").write_text("<!DOCTYPE html>\n<html><body>Please log in</body></html>")
    return "name: character-fonts, root: fonts.zip"


def cut_archive(place: Path) -> str:
    said = archive(place, font())
    cut(place / "fonts.zip", 200)
    return said


def cifar(place: Path) -> str:
    folder = place / "cifar/cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(b"\x80\x02}q\x01.")
    return "name: cifar10, root: cifar"


def too_few(place: Path) -> list[str]:
    """Sixteen images, already in the cache."""
    images(place)
    prepare(DataConfig(name="folder", root=str(place / "images")), place / "cache")
    text = GOOD.replace("{name: glyphs, variants: 1}", "{name: folder, root: images}")
    (place / "mine.yaml").write_text(text + "baseline: {batch_size: 64}")
    return ["--study", "mine.yaml"]


def a_file(place: Path) -> list[str]:
    (place / "mine.txt").write_text("not a folder")
    return ["--storage", "mine.txt"]


@cache
def _made() -> Path:
    place = Path(tempfile.mkdtemp(prefix="resnetlab-made-"))
    atexit.register(shutil.rmtree, place)
    study = default_study(search={"trials": 4, "epochs": 3})
    make_results(place / "made", study, confirm=False, faults=False)
    return place / "made"


def results(place: Path) -> Path:
    """A results folder of four trials."""
    return Path(shutil.copytree(_made(), place / "results/made"))


def no_such_trial(place: Path) -> list[str]:
    results(place)
    return ["results/made", "999"]


REFERENCE = Path(__file__).resolve().parents[1] / "results/reference"


def packed(change: Callable[[bytearray], object]) -> Callable[[Path], list[str]]:
    """An archive for reviewers with some bytes changed."""

    def command(place: Path) -> list[str]:
        (place / "mine.zip").write_bytes(_packed())
        data = bytearray(_packed())
        change(data)
        (place / "mine.zip").write_bytes(data)
        return ["mine.zip"]

    return command


@cache
def _packed() -> bytes:
    return zipped(members(Findings(Results.open(REFERENCE / "resnet-vs-cnn"))))


def _one_byte(data: bytearray) -> None:
    data[data.index(b"test_accuracy", data.index(b"report.html"))] ^= 1


def unplanned(*words: str) -> Callable[[Path], list[str]]:
    """A results folder of exploration alone."""

    def command(place: Path) -> list[str]:
        results(place)
        return ["results/made", *words]

    return command


def changed_study(place: Path) -> list[str]:
    results(place)
    (place / "made.yaml").write_text(GOOD)
    return ["--study", "made.yaml"]


def grown_study(trials: str, *words: str) -> Callable[[Path], list[str]]:
    """The study of the results folder with another number of trials."""

    def command(place: Path) -> list[str]:
        results(place)
        study = default_study(search={"trials": 4, "epochs": 3})
        (place / "made.yaml").write_text(json.dumps(study.recorded()))
        return ["--study", "made.yaml", "--trials", trials, *words]

    return command


CODE = "def falls(done):\n    return 1 - done\n"


@cache
def _coded() -> Path:
    """A folder with a study of one trial whose schedule is its own code, and its results."""
    place = Path(tempfile.mkdtemp(prefix="resnetlab-coded-"))
    atexit.register(shutil.rmtree, place)
    (place / "mine.py").write_text(CODE)
    (place / "mine.yaml").write_text(OWN_CODE)
    run_here(own.load(place / "mine.yaml"), place / "results/mine", place / "cache", extends=False)
    return place


OWN_CODE = """
dataset: {name: glyphs, variants: 1, limit: 100}
baseline: {blocks: 1, width: 4, downsample: 1, batch_size: 32, schedule: mine.py:falls}
factors: {kernel: {levels: [1, 3]}}
search: {trials: 1, epochs: 1}
confirm: {design: none}
"""


def grown_while_driven(*options: str) -> Callable[[Path], list[str]]:
    """Of a folder whose driver is this process. Its images are not in the cache: none are needed to refuse it."""

    def put(place: Path) -> list[str]:
        study = default_study(search={"trials": 4, "epochs": 3}, dataset={"name": "glyphs", "variants": 1})
        make_results(place / "results/made", study, confirm=False, faults=False)
        (place / "made.yaml").write_text(json.dumps(study.recorded()))
        Lease(ResultsFolder.at(place / "results/made"))
        return ["--study", "made.yaml", "--trials", "6", "--extend", *options]

    return put


def grown_on_changed_images(place: Path) -> list[str]:
    """One image of a swept folder is another one now."""
    images(place)
    dataset = {"name": "folder", "root": str(place / "images")}
    study = default_study(search={"trials": 4, "epochs": 3}, dataset=dataset, baseline={"batch_size": 8})
    make_results(place / "results/made", study, confirm=False, faults=False)
    config = study.baseline_config(seed=0)
    found = {data_key(config): prepare(config.data, place / "before")}
    folder = ResultsFolder.at(place / "results/made")
    folder.write_json("data.json", compared(folder, study, found))
    (place / "made.yaml").write_text(json.dumps(study.recorded() | {"dataset": dataset}))
    Image.new("RGB", (8, 8), "red").save(place / "images/train/cat/3.png")
    shutil.rmtree(place / "before")
    prepare(config.data, place / "cache")
    return ["--study", "made.yaml", "--trials", "6", "--extend"]


def grown_under_changed_code(place: Path) -> list[str]:
    shutil.copytree(_coded(), place, dirs_exist_ok=True)
    (place / "mine.py").write_text(CODE.replace("1 - done", "1 - done**2"))
    return ["--study", "mine.yaml", "--trials", "2", "--extend"]


def write(place: Path, rows: pa.Table, name: str = "epochs", **options: object) -> None:
    with pq.ParquetWriter(place / f"{name}.parquet", rows.schema, **options) as writer:
        writer.write_table(rows, row_group_size=1 << 30)
        writer.add_key_value_metadata(rows.schema.metadata or {})


def bomb(place: Path) -> None:
    rows = 20_000_000
    one_page = {"data_page_size": 1 << 30, "write_batch_size": rows, "store_schema": False}
    if "max_rows_per_page" in inspect.signature(pq.ParquetWriter).parameters:  # that has a smaller default
        one_page["max_rows_per_page"] = rows
    write(place, constant(rows), "predictions", compression="zstd", write_statistics=False, **one_page)
    assert (place / "predictions.parquet").stat().st_size < 1500


def future(place: Path) -> None:
    write(place, epochs(1).replace_schema_metadata({**schema("epochs").metadata, b"resnetlab.version": b"99"}))


def edit_trials(place: Path, change: Callable[[dict], dict]) -> None:
    rows = pq.read_table(place / "trials.parquet")
    changed = pa.Table.from_pylist([change(row) for row in rows.to_pylist()], rows.schema)
    write(place, changed, "trials")


def mixed(place: Path) -> None:
    edit_trials(place, lambda row: row | ({"study": "other"} if row["number"] % 2 else {}))


def unfinished(place: Path) -> None:
    edit_trials(place, lambda row: row | {"status": "failed"})


CASES = {
    # configuration
    "config missing": options(["--study", "nosuch.yaml"], "nosuch.yaml", "no such file"),
    "config missing (a name)": options(["--study", "nosuch"], "nosuch", "allowed", "default"),
    "config empty": study("", "empty"),
    "invalid YAML": study("a: [1", "line 1", "expected"),
    "not a mapping": study("- 1", "mapping"),
    "duplicate key": study(GOOD + "seed: 1\nseed: 2", "line", "duplicate key 'seed'"),
    "unknown key": study(GOOD + "serach: {}", "serach", "did you mean 'search'"),
    "unknown nested key": study(GOOD.replace("trials", "trails"), "search.trails", "did you mean 'trials'"),
    "YAML tag that builds objects": study("a: !!python/object/apply:os.system ['touch owned']", "python/object"),
    "alias bomb": study(BOMB, "line", "aliases", "not allowed"),
    "not UTF-8": study(b"name: \xff\xfe", "UTF-8", "byte"),
    "deep nesting": study("[" * 5000, "not YAML"),
    "wrong type": study(GOOD.replace("epochs: 2", "epochs: two"), "search.epochs", "'two'", "whole number"),
    "wrong type of a level": study(GOOD.replace("[3, 5]", "[3, '5']"), "factors.kernel", "'5'", "int"),
    "`1e-3` read as text": study(RANGE.replace("0.01", "'1e-3'"), "factors.lr", "low", "'1e-3'", "number"),
    "`1e-3`, which is a number": study(
        RANGE.replace("0.01", "1e-3").replace("0.1,", "1e-4,"), "got low=0.001, high=0.0001"
    ),
    "min > max": study(GOOD.replace("levels: [3, 5]", "low: 5, high: 3"), "factors.kernel", "low < high", "low=5"),
    "log scale with 0": study(RANGE.replace("0.01", "0"), "factors.lr", "0 < low", "low=0"),
    "empty choices": study(GOOD.replace("[3, 5]", "[]"), "factors.kernel", "at least two", "[]"),
    "one choice": study(GOOD.replace("[3, 5]", "[3]"), "factors.kernel", "at least two", "[3]"),
    "NaN bound": study(RANGE.replace("0.01", ".nan"), "factors.lr", "low", "nan", "finite"),
    "infinite bound": study(RANGE.replace("0.1,", ".inf,"), "factors.lr", "high", "inf", "finite"),
    "level out of range": study(GOOD.replace("[3, 5]", "[3, 33]"), "factors.kernel", "33", "11"),
    "even kernel": study(GOOD.replace("[3, 5]", "[3, 4]"), "factors.kernel", "4", "odd"),
    "zero trials": study(GOOD.replace("trials: 2", "trials: 0"), "search.trials", "got 0", "or equal to 1"),
    "zero trials (an option)": options(["--trials", "0"], "with search.trials=0", "got 0"),
    "negative epochs": study(GOOD.replace("epochs: 2", "epochs: -1"), "search.epochs", "got -1", "or equal to 1"),
    "grace_period over epochs": study(
        GOOD.replace("epochs: 2", "epochs: 2, grace_period: 3"), "search", "grace_period <= epochs"
    ),
    "checkpoints from which no trial can go on": study(
        f"{GOOD.replace('epochs: 2', 'epochs: 2, keep_checkpoints: true')}baseline: {{schedule: cosine}}\n",
        "search.keep_checkpoints",
        "schedule: cosine depends on the budget",
        "(allowed: false)",
    ),
    "a name of before beside its new one": study(
        GOOD.replace("epochs: 2", "epochs: 2, grace: 1, grace_period: 1"), "search.grace and search.grace_period"
    ),
    "batch larger than the data": Case(2, ("batch_size", "64", "training images", "allowed: 1 to"), too_few),
    "a GPU where there is none": options(
        ["--gpus-per-trial", "1"], "resources.gpus", "1 GPU,", "this machine has none"
    ),
    "several GPUs for one trial": options(
        ["--gpus-per-trial", "2"],
        "resources.gpus: 2",
        "on one GPU",
        "networks here are small",
        "every GPU gets a trial",
    ),
    "more CPUs than the machine has": options(["--cpus-per-trial", "4000"], "resources.cpus", "4000 CPUs", "machine"),
    "negative GPUs": options(["--gpus-per-trial", "-1"], "resources.gpus", "-1"),
    "unknown model": study(GOOD + "baseline: {model: resnet99}", "baseline", "model", "resnet99", "resnet18"),
    "unknown dataset": study(GOOD.replace("glyphs", "mnist"), "dataset.name", "mnist", "cifar10"),
    "no dataset": study(GOOD.replace("dataset", "datasets"), "dataset", "is missing"),
    "setting that the dataset has not": options(
        ["--set", "dataset.size=8"], "default.yaml", "dataset.size", "it reads"
    ),
    "unknown metric": study(
        GOOD.replace("trials: 2", "trials: 2, metric: f1"), "search.metric", "'f1'", "val_accuracy"
    ),
    "unknown second metric": study(
        GOOD.replace("trials: 2", "trials: 2, second_objective: flops"), "second_objective", "flops", "parameters"
    ),
    "wrong direction": study(
        GOOD.replace("trials: 2", "trials: 2, direction: minimize"), "search.direction", "'minimize'", "is maximised"
    ),
    "unknown factor": study(GOOD.replace("kernel", "kernal"), "kernal", "did you mean 'kernel'"),
    "condition on nothing": study(
        GOOD.replace("[3, 5]}", "[3, 5], when: {optimiser: sgd}}"), "kernel.when", "optimiser"
    ),
    "conditions in a circle": study(
        GOOD.replace("[3, 5]}", "[3, 5], when: {blocks: 3}}\n  blocks: {levels: [2, 3], when: {kernel: 3}}"), "circle"
    ),
    "baseline outside the factors": study(GOOD + "baseline: {kernel: 7}", "baseline", "kernel=7", "3, 5"),
    "infeasible baseline": study(GOOD + "baseline: {blocks: 1}", "baseline", "downsample <= blocks", "blocks=1"),
    "baseline of the wrong type": study(GOOD + "baseline: {blocks: two}", "baseline: blocks", "'two'"),
    "NaN in the baseline": options(["--set", "baseline.lr=.nan"], "baseline: lr", "baseline.lr=nan"),
    "grid over a range": study(RANGE.replace("trials", "sampler: grid, trials"), "search.sampler", "factors.lr"),
    "confirm a range": study(GOOD + "confirm: {factors: [lr]}", "confirm.factors", "'lr'", "kernel"),
    "fraction of one factor": study(GOOD + "confirm: {design: fractional}", "confirm.design", "2 to 8"),
    "a pilot of no runs": options(["--phase", "pilot"], "confirm.pilot is 0", "2 to 1000"),
    "a pilot of one run": options(["--set", "confirm.pilot=1"], "confirm.pilot", "no spread"),
    "a hypothesis that is none": study(
        GOOD + "hypotheses: [kernel 5 beats kernel 3]", "hypotheses", "beats", "allowed"
    ),
    "a budget shorter than one trial": options(
        ["--time-budget", "8s"], "time_budget: 8s is shorter than one trial", "the report alone"
    ),
    "a budget that is no duration": options(["--time-budget", "40"], "time_budget: '40' is no duration", "40m"),
    "a budget of nothing": options(["--time-budget", "0m"], "time_budget: '0m' is no duration", "1h30m"),
    "set without value": options(["--set", "seed"], "--set seed", "key=value"),
    "set below a value": options(["--set", "seed.x=3"], "seed", "integer"),
    # names and places
    "study name ''": options(["--name", ""], "name", "''", "allowed"),
    "study name '..'": options(["--name", ".."], "name", "'..'", "allowed"),
    "study name absolute": options(["--name", "/tmp/x"], "name", "'/tmp/x'", "allowed"),
    "study name with newline": options(["--name", "a\nb"], "name", r"a\nb", "allowed"),
    "study name over 128 bytes": options(["--name", "x" * 129], "name", "128"),
    "<script> in a name": options(["--name", "<script>alert(1)</script>"], "name", "<script>", "allowed"),
    "password in a storage URL": options(
        ["--storage", f"s3://me:{SECRET}@bucket/x"], "--storage s3://…@bucket/x", "AWS_SECRET_ACCESS_KEY", never=SECRET
    ),
    "password in a URL of no known kind": options(
        ["--storage", f"gopher://me:{SECRET}@host/x"], "--storage gopher://…@host/x", "password", never=SECRET
    ),
    "a key in the query of a storage URL": options(
        ["--storage", f"abfss://box@account/x?sas_token={SECRET}"], "sas_token", "environment", never=SECRET
    ),
    "password in the URL of a results folder": options(
        [f"s3://me:{SECRET}@bucket/x"], "s3://…@bucket/x", never=SECRET, script="report"
    ),
    "storage of no known kind": options(["--storage", "gopher://x/y"], "--storage gopher", "s3"),
    "unwritable storage": options(["--storage", "/proc/x"], "--storage /proc/x", "cannot be written"),
    "unwritable storage (/dev/null)": options(["--storage", "/dev/null/x"], "--storage", "a part of it is a file"),
    "empty storage": options(["--storage", " "], "--storage", "empty", "allowed"),
    "storage that is a file": Case(2, ("--storage mine.txt", "cannot be written"), a_file),
    "nobody at the cluster's address": options(["--address", "127.0.0.1:1"], "--address 127.0.0.1:1", "cannot connect"),
    "a cap of no trial": options(["--slots", "0"], "--slots 0", "need at least 1"),
    "pause where there is no results folder": options(
        ["here"], "here: not a results folder", "study.json", script="pause"
    ),
    "stop where no sweep runs": Case(
        2, ("results/made", "no sweep runs there"), lambda place: [str(results(place))], "stop"
    ),
    "no address": options(["--address", "nonsense"], "--address nonsense", "host:port"),
    "continue with a changed study": Case(
        4, ("results/made", "different settings", "trials: 4 in the folder, 2 asked for", "--name"), changed_study
    ),
    "a changed study that --extend goes on from": Case(
        4, ("results/made", "search.trials: 4 in the folder, 6 asked for", "add --extend"), grown_study("6")
    ),
    "--extend with fewer trials": Case(
        4,
        ("results/made", "--extend cannot go on from", "search.trials: 4 in the folder, 2 asked for (allowed: 4 or"),
        grown_study("2", "--extend"),
    ),
    "--extend with a level beyond its limit": Case(
        2,
        ("factors.blocks: level 999", "less than or equal to 64"),
        grown_study("6", "--extend", "--set", "factors.blocks.levels=[2, 3, 999]"),
    ),
    "--extend with other data": Case(
        4,
        ("results/made", "--extend cannot go on from", "dataset.variants: 24 in the folder, 7 asked for"),
        grown_study("6", "--extend", "--set", "dataset.variants=7"),
    ),
    "--extend on changed images": Case(
        3, ("results/made: was run on folder with data hash", "restore the data"), grown_on_changed_images
    ),
    "--extend while a driver runs": Case(4, ("results/made: held by", f"pid {os.getpid()}"), grown_while_driven()),
    "--extend while a driver runs (a dry run)": Case(
        4, ("results/made: held by", f"pid {os.getpid()}"), grown_while_driven("--dry-run")
    ),
    "--extend under changed code": Case(
        4, ("mine.py: falls changed", "--accept-changed-code"), grown_under_changed_code
    ),
    "--extend of nothing": options(["--extend", "--dry-run"], "--extend: ", "holds no results", "allowed"),
    # data
    "data absent": data(
        lambda place: "name: cifar10, root: nowhere", "nowhere", "lacks data_batch_1", "download: true"
    ),
    "data absent (a folder)": data(lambda place: "name: folder, root: nowhere", "nowhere", "not a folder"),
    "data truncated": data(
        lambda place: images(place, lambda root: cut(root / "train/cat/3.png")), "cat/3.png", "damaged"
    ),
    "data truncated (an archive)": data(cut_archive, "fonts.zip", "truncated"),
    "hash mismatch": data(cifar, "data_batch_1", "MD5", "c99cafc152244af753f735de768cd75f"),
    "archive with ../": data(
        lambda place: archive(place, ("../../A.csv", "x")), "fonts.zip", "refused", "'../../A.csv'"
    ),
    "archive with links": data(
        lambda place: archive(place, (link("A.csv"), "/etc/passwd")), "fonts.zip", "link", "A.csv"
    ),
    "an HTML page saved as an archive": data(web_page, "fonts.zip", "a web page", "not a zip archive"),
    "a decompression bomb": data(
        lambda place: archive(place, ("A.csv", "0" * (300 << 20))), "fonts.zip: A.csv", "refused", "allowed: 200 times"
    ),
    "a decompression bomb (an image)": data(
        lambda place: images(place, lambda root: Image.new("1", (20_000, 20_000)).save(root / "train/cat/0.png")),
        "cat/0.png",
        "too large",
        "pixels",
    ),
    "=cmd in a CSV cell": data(
        lambda place: archive(place, font("=cmd|' /C calc'!A0")), "A.csv line 2", "=cmd", "whole number"
    ),
    "an image that is none": data(
        lambda place: images(place, lambda root: (root / "train/cat/x.png").write_text("<html>")),
        "cat/x.png",
        "not an image",
    ),
    "images of two sizes": data(
        lambda place: images(place, lambda root: Image.new("RGB", (9, 9)).save(root / "train/cat/9.png")),
        "9×9",
        "dataset.size",
    ),
    "a class without images": data(
        lambda place: images(place, lambda root: (root / "train/emu").mkdir()), "emu", "empty"
    ),
    "test images alone": data(
        lambda place: images(place, lambda root: (root / "train").rename(root / "test")), "train/"
    ),
    # results folders
    "no results folder": options(["nowhere"], "nowhere", "not a results folder", script="report"),
    "Parquet with zero bytes": table(
        lambda place: (place / "epochs.parquet").write_bytes(b""), "epochs.parquet", "damaged"
    ),
    "Parquet with no footer": table(
        lambda place: (place / "epochs.parquet").write_bytes(b"PAR1"), "epochs.parquet", "damaged"
    ),
    "Parquet of another schema": table(
        lambda place: write(place, pa.table({"x": [1]})), "epochs.parquet", "not a resnetlab table"
    ),
    "Parquet with duplicate keys": table(
        lambda place: write(place, pa.concat_tables([epochs(2), epochs(1, first=2)])), "epochs.parquet", "duplicate key"
    ),
    "Parquet of 1 KB that decodes to 0.5 GB": table(bomb, "predictions.parquet", "decode to", "allowed for a file"),
    "Parquet of an unknown version": table(future, "epochs.parquet", "schema version 99", "allowed: 2 to"),
    "Parquet with no finished trial": table(unfinished, "no trial has finished", "4 failed", code=1),
    "Parquet of mixed studies": table(mixed, "trials.parquet", "'other'", "allowed: 'made'"),
    "a trial that is not there": Case(2, ("999", "results/made", "allowed"), no_such_trial, "trial"),
    "no published study": options(["nosuch"], "nosuch", "resnet-vs-cnn", script="reproduce"),
    # papers, archives, studies side by side
    "an archive with one byte altered": Case(3, ("mine.zip", "report.html", "altered"), packed(_one_byte), "verify"),
    "an archive cut short": Case(
        3, ("mine.zip", "damaged"), packed(lambda data: data.__delitem__(slice(-99, None))), "verify"
    ),
    "an archive that is none": Case(3, ("mine.zip", "no archive"), packed(bytearray.clear), "verify"),
    "no archive": options(["nowhere.zip"], "nowhere.zip", "cannot be read", script="verify"),
    "an export of nothing": Case(2, ("nothing to export", "--latex"), unplanned(), "export"),
    "a paper without a plan": Case(2, ("results/made", "no plan"), unplanned("--latex"), "export"),
    "an archive of another kind": Case(2, ("--archive", ".zip"), unplanned("--archive", "x.tar"), "export"),
    "one study compared": options([str(REFERENCE / "default")], "two folders or more", script="compare"),
    "a study compared with itself": options(
        [str(REFERENCE / "default"), str(REFERENCE / "default/.")], "given twice", script="compare"
    ),
    "a study without a plan compared": Case(
        2, ("results/made", "no plan"), unplanned(str(REFERENCE / "default")), "compare"
    ),
    "a folder of studies that is not there": options(
        ["nowhere"], "RESULTS", "nowhere", "no such folder", script="serve"
    ),
    "a port that is no port": options([".", "--port", "70000"], "--port", "65535", script="serve"),
    "an empty command to notify": options(["--notify", " "], "--notify", "empty"),
    "a scale of nothing": options(["resnet-vs-cnn", "--scale", "0"], "--scale 0", "0 < scale <= 1", script="reproduce"),
}
SCRIPTS = ("ablation", "report", "reproduce", "trial", "export", "verify", "compare", "pause", "stop", "serve")


def run(case: Case, place: Path, door: Door) -> tuple[Ended, bool]:
    """How the case ended, and whether everything was left as it was."""
    place.mkdir(parents=True)
    for name in ("home", "tmp"):
        (place / name).mkdir()
    words = case.command(place)
    before = tree(place)
    ended = door.call(place, *words, RESNETLAB_CACHE=str(place / "cache"), MPLCONFIGDIR=str(place.parent / "mpl"))
    return ended, tree(place) == before


def main() -> None:
    with ExitStack() as stack:
        doors = {name: stack.enter_context(Door(name)) for name in SCRIPTS}
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        print("| given | code | s | said |\n|---|---|---|---|")
        for number, (name, case) in enumerate(CASES.items()):
            ended, clean = run(case, root / str(number), doors[case.script])
            said = ended.err.strip().replace(str(root / str(number)), "").replace("\n", " ").replace("|", "¦")
            right = ended.code == case.code and clean and ended.alone
            said = said if right else f"**wrong** (need {case.code}, clean {clean}) {said}"
            missing = [word for word in case.words if word not in ended.err]
            if missing:
                said = f"**lacks {missing}** {said}"
            print(f"| {name} | {ended.code} | {ended.seconds:.1f} | `{said[:400]}` |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
