"""`resnetlab new`: the study that it writes for a folder of images passes a dry run and runs."""

import shutil
import subprocess
import sys
from pathlib import Path

import images_here
import numpy as np
import pytest
import yaml
from PIL import Image
from sweeps_here import run_here

from resnetlab.cli.dry_run import dry_run
from resnetlab.cli.new import new_study
from resnetlab.driver.options import Options
from resnetlab.errors import BadData, BadRequest
from resnetlab.experiment import own
from resnetlab.study import load_study
from resnetlab.study.records import Status

ROOT = Path(__file__).resolve().parents[1]


def draw(file, size, mode):
    file.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,)}[mode]
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], *channels), np.uint8)
    Image.fromarray(pixels, mode).save(file)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path):
    return images_here.make(tmp_path / "my photos", seed=0)


def test_the_study_passes_a_dry_run(photos, tmp_path):
    env = {"PYTHONPATH": str(ROOT), "RESNETLAB_CACHE": str(tmp_path / "cache"), "PATH": "", "HOME": str(tmp_path)}

    def call(*words):
        command = [sys.executable, "-m", "resnetlab", *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)

    made = call("new", "my photos")
    assert made.returncode == 0, made.stderr
    assert "sweep --study study.yaml --dry-run" in made.stdout
    checked = call("sweep", "--study", "study.yaml", "--dry-run")
    assert checked.returncode == 0 and checked.stderr == "", checked.stderr  # no note of settings by old names
    assert "3 classes, 138 training, 15 validation, 27 test images" in checked.stdout
    again = call("new", "my photos")
    assert again.returncode == 2 and "exists already" in again.stderr


def test_the_study_runs(photos, tmp_path, cache):
    new_study(str(photos), tmp_path / "study.yaml")
    fewer = {"search.trials": 1, "search.epochs": 1, "confirm.seeds": 1, "baseline.width": 4}
    rows = run_here(load_study(tmp_path / "study.yaml", fewer), tmp_path / "results", cache)
    assert len(rows) == 1 + 4
    assert {row["status"] for row in rows} == {Status.COMPLETE}


def test_the_comments_say_what_the_folder_holds(photos, tmp_path):
    for number in range(50):
        (photos / f"train/class-2/{number}.png").unlink()
    new_study(str(photos), tmp_path / "study.yaml")
    text = (tmp_path / "study.yaml").read_text()
    assert "# 3 classes: class-0, class-1, class-2" in text
    assert "unbalanced" in text and "training images of class-0" in text
    assert "24 × 24 pixels, colour" in text and "\n  size:" not in text and "mode:" not in text


def test_images_of_several_sizes_and_kinds_become_alike(tmp_path):
    for number in range(20):
        draw(tmp_path / f"mixed/train/a/{number}.png", (30 + number, 90), "RGB")
        draw(tmp_path / f"mixed/train/b/{number}.png", (40, 33), "L")
        draw(tmp_path / f"mixed/test/{'ab'[number % 2]}/{number}.png", (40, 40), "L")
    new_study(str(tmp_path / "mixed"), tmp_path / "study.yaml")
    study = load_study(tmp_path / "study.yaml")
    assert (study.dataset.size, study.dataset.mode) == (40, "rgb")
    assert "20 test" in (tmp_path / "study.yaml").read_text()


def test_large_images_are_made_smaller(tmp_path):
    for number in range(24):
        draw(tmp_path / f"large/train/{'ab'[number % 2]}/{number}.png", (120, 100), "L")
    new_study(str(tmp_path / "large"), tmp_path / "study.yaml")
    assert load_study(tmp_path / "study.yaml").dataset.size == 64


@pytest.mark.parametrize("name", ['a: "b" # c', "one\ntwo: 3", "tab\tdel\x7f", "été 🙂", "123", "…", "{{x}}", "- x"])
def test_any_name_of_a_folder_gives_a_study_that_can_be_read(photos, tmp_path, name):
    place = photos.rename(tmp_path / name)
    (place / "train/class-0").rename(place / f"train/{name}")
    new_study(str(place), tmp_path / "study.yaml")
    study = load_study(tmp_path / "study.yaml")
    assert study.dataset.root == str(place) and study.title.endswith(name)
    assert set(yaml.safe_load((tmp_path / "study.yaml").read_text())) == {
        "name", "title", "question", "dataset", "baseline", "factors", "search", "confirm", "resources"
    }  # fmt: skip


ODD = """
from typing import Annotated, Literal
from pydantic import Field
from torch import nn

def plain(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))

def odd(
    shape,
    classes,
    *,
    epochs: Annotated[int, Field(ge=3, le=3)],
    how: Literal["yes", "no", "a: b # c"],
    some: int | None = None,
    deep: Annotated[int, Field(le=4, description="how # deep:\\nor not")] = 3,
    text: str = "true",
):
    return plain(shape, classes)

def switched(shape, classes, *, wide: bool = True, share: float = 0.5):
    return plain(shape, classes)
"""
MORE = """
import random
import numpy as np

METRICS = {"rank": {"direction": "min", "unit": "places"}, "spread": ""}

def stripes(*, number: int = 200, noise: float = 60.0, kind: str = "wide"):
    draw = np.random.default_rng(0)
    labels = np.arange(number) % 2
    pattern = np.indices((12, 12)) // 3 % 2 * 128
    images = pattern[labels] + draw.normal(64, noise, (number, 12, 12))
    return images.clip(0, 255).astype("uint8"), labels

def rank(labels, scores):
    return 1 + float((scores > scores[np.arange(len(labels)), labels][:, None]).sum(1).mean())

def spread(labels, scores):
    return float(scores.std())

def once(trial, *, share: float = 0.5, noise: float = 0.0):
    draw = random.Random(trial.seed("noise"))
    yield {"val_loss": 1.0, "val_share": share + draw.random() / 100}
    return {"test_share": share + draw.random() / 100} if trial.may_test else None

share = {"direction": "max", "unit": "%"}
once.METRICS = {"val_loss": "min", "val_share": share, "test_share": share}

class Steps:
    METRICS = {"val_bits": {"direction": "min", "unit": "bits"}, "test_error": "min"}

    def __init__(self, trial, *, depth: int = 2):
        self.trial, self.depth = trial, depth

    def epoch(self):
        return {"val_bits": self.trial.seed("a") % 7 / self.depth}

    def test(self):
        return {"test_error": self.trial.seed("b") % 7 / self.depth}

def none(trial, *, depth: int = 2):
    yield {"val_loss": 1.0}

none.METRICS = {}

def fixed(trial):
    yield {"val_loss": 1.0}

def untested(trial, *, depth: int = 2):
    yield {"val_loss": 1.0}

fixed.METRICS = once.METRICS
untested.METRICS = {"val_loss": "min"}

def propose(space, done, seed, *, step: float = 0.1):
    return {"width": random.Random(seed).choice([8, 16]), "lr": 0.001 + step / 1000}

def worse(epoch, values, others, *, patience: int = 2):
    return epoch >= patience and values[-1] < values[0]
"""
PARTS = {  # a reference: the factor that is suggested, and its levels
    "code/my_net.py:net": ("act", ["relu", "gelu", "silu"]),
    "code/my_parts.py:focal": ("loss", ["cross-entropy", "../code/my_parts.py:focal"]),
    "code/my_parts.py:cutout": ("size", [4, 8]),
    "torch.optim:NAdam": ("decoupled_weight_decay", [False, True]),
    "code/odd.py:plain": ("model", ["cnn", "../code/odd.py:plain"]),
    "code/odd.py:odd": ("how", ["yes", "no", "a: b # c"]),
    "code/odd.py:switched": ("wide", [True, False]),
    "code/more.py:stripes": ("width", [8, 16]),
    "code/my_parts.py:worst_class": ("width", [8, 16]),
    "code/more.py:rank": ("width", [8, 16]),
    "code/more.py:spread": ("width", [8, 16]),
    "code/my_task.py:train": ("huber", [False, True]),
    "code/more.py:once": ("share", [0.5, 1.5]),
    "code/more.py:Steps": ("depth", [2, 4]),
    "code/more.py:propose": ("width", [8, 16]),
    "code/more.py:worse": ("width", [8, 16]),
    "optuna.samplers:RandomSampler": ("width", [8, 16]),
}
TUNED = {"code/more.py:once": [], "code/more.py:Steps": []}  # factors beside it, where they are not lr
SAID = {  # what the text has beside them
    "code/more.py:stripes": ["name: ../code/more.py:stripes #", "  number: 200\n", "  kind: wide\n", "model: cnn"],
    "code/my_parts.py:worst_class": ["objective: worst_class #", "delta: 1 # percentage points", "name: digits"],
    "code/more.py:rank": [
        "objective: rank #",
        "delta: 0.1 # check this: in places",
        "width 16 < width 8 by at least 0.1 places",
    ],
    "code/more.py:spread": ["metrics: [../code/more.py:spread] #", "no direction", "delta: 1 # percentage points"],
    "code/my_task.py:train": [
        "objective: val_rmse # what is searched for: low is better",
        "epochs: 6",
        "low: 0.0033",
        "huber true < huber false by",
    ],
    "code/more.py:propose": ["  sampler: ../code/more.py:propose #", "  step: 0.1\n  grace_period: 1"],
    "code/more.py:worse": ["  stopping: ../code/more.py:worse #", "  patience: 2\n\nconfirm:"],
    "optuna.samplers:RandomSampler": ["  sampler: optuna.samplers:RandomSampler #"],
    "code/more.py:once": ["objective: val_share", "epochs: 1 #", "delta: 1 # percentage points"],
    "code/more.py:Steps": ["objective: val_bits", "  metric: test_error\n", "epochs: 6", "in the unit of test_error"],
}


@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize("source", PARTS)
def test_a_study_of_one_s_own_code_compares_one_of_its_settings_and_passes_a_dry_run(
    source, tmp_path, monkeypatch, capsys
):
    shutil.copytree(ROOT / "tests/own_code", tmp_path / "code")
    (tmp_path / "code/odd.py").write_text(ODD)
    (tmp_path / "code/more.py").write_text(MORE)
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path)
    new_study(source, Path("studies/own.yaml"))
    study = own.load(tmp_path / "studies/own.yaml")
    factor, levels = PARTS[source]
    assert (
        list(study.factors) == [factor, *TUNED.get(source, ["lr"])]
        and list(study.space[factor].branches[0].levels) == levels
    )
    text = (tmp_path / "studies/own.yaml").read_text()
    assert all(words in text for words in SAID.get(source, [])) and "\n\n\n" not in text, text
    (tmp_path / "studies/own.yaml").write_text(text.replace("# hypotheses:", "hypotheses:").replace("#   - ", "  - "))
    assert own.load(tmp_path / "studies/own.yaml").declared
    dry_run(study, Options(storage="results"))
    assert f"{factor} (compared)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "output", "error", "words"),
    [
        ("nowhere", "s.yaml", BadData, "is not a folder"),
        ("my photos", "s.txt", BadRequest, "--output .*need a name that ends in .yaml or .yml"),
        ("my photos", "my photos/train/class-0/0.png/s.yaml", BadRequest, "--output: .*a part of it is a file"),
        ("net.py:build", "s.yaml", BadRequest, "net.py:build: no such file"),
        ("package.module:build", "s.yaml", BadRequest, "no module 'package.module'"),
        ("math:pi", "s.yaml", BadRequest, "is a float, which cannot be called"),
        ("torchvision.models:resnet18", "s.yaml", BadRequest, r"model: .*resnet18: takes weights.*\(shape, classes\)"),
        ("more.py", "s.yaml", BadRequest, "name the function or class in it .*more.py:stripes, .*more.py:Steps"),
        (
            "nothing.py",
            "s.yaml",
            BadRequest,
            r"nothing.py: name the function or class in it \(allowed: nothing.py:name",
        ),
        ("more.py:none", "s.yaml", BadRequest, "no numbers are declared"),
        ("more.py:fixed", "s.yaml", BadRequest, "fixed: has no setting to compare"),
        ("more.py:untested", "s.yaml", BadRequest, "no number with a direction of the test split"),
        ("", "s.yaml", BadRequest, "SOURCE: the path is empty"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(photos, tmp_path, monkeypatch, source, output, error, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.py").write_text(MORE)
    before = sorted(tmp_path.rglob("*.yaml"))
    with pytest.raises(error, match=words):
        new_study(source, Path(output))
    assert sorted(tmp_path.rglob("*.yaml")) == before


def test_a_short_name_that_a_package_registers_is_of_the_kind_that_it_says(tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "short-1.0.dist-info").mkdir(parents=True)
    shutil.copy(ROOT / "tests/own_code/my_parts.py", site / "short_parts.py")
    groups = {"losses": "focal", "metrics": "rank", "models": "rank", "samplers": "guess"}
    lines = [f"[resnetlab.{group}]\n{name} = short_parts:focal\n" for group, name in groups.items()]
    (site / "short-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: short\nVersion: 1.0\n")
    (site / "short-1.0.dist-info/entry_points.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(tmp_path)
    new_study("focal", Path("study.yaml"))
    assert list(own.load(tmp_path / "study.yaml").space["loss"].branches[0].levels) == ["cross-entropy", "focal"]
    with pytest.raises(BadRequest, match="rank: is registered as model and as metric"):
        new_study("rank", Path("other.yaml"))
    with pytest.raises(BadRequest, match=r"search.sampler: guess .registered by short.: takes logits, labels, gamma"):
        new_study("guess", Path("other.yaml"))


def test_an_image_that_is_broken_is_named(photos, tmp_path):
    (photos / "train/class-1/7.png").write_bytes(b"no image")
    with pytest.raises(BadData, match=r"class-1/7\.png"):
        new_study(str(photos), tmp_path / "study.yaml")
    assert not (tmp_path / "study.yaml").exists()
