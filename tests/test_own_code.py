"""A user's own network, loss, augmentation, optimizer and schedule, by reference: from the study file to the report."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import torch
from doors import Door, tree
from pydantic import BaseModel
from sweeps_here import run_here

from resnetlab.analysis.results import Results
from resnetlab.driver import rerun
from resnetlab.driver.checks import own_code, rehearsal
from resnetlab.driver.checks.extend import check_identity
from resnetlab.driver.dry_run import own_networks
from resnetlab.errors import BadRequest, FolderRefused, TrialsFailed
from resnetlab.experiment import own
from resnetlab.experiment.messages import Ending
from resnetlab.experiment.own_parts import OwnParts
from resnetlab.experiment.source import Source
from resnetlab.report.build import build_report
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table, write_table
from resnetlab.study import build_study, legacy
from resnetlab.study.frozen import digest
from resnetlab.study.trial_config import TrialConfig
from resnetlab.sweep.task import data_key, with_codes
from resnetlab.vision.data import prepare
from resnetlab.vision.models import build, facts, pretrained
from resnetlab.vision.training import checkpoint
from resnetlab.vision.training.loop import Training
from resnetlab.vision.trial_checkpoints import TrialCheckpoints, kept_state

ROOT = Path(__file__).resolve().parents[1]
OWN = Path(__file__).with_name("own_code")
STUDY = """
dataset: {name: digits, limit: 300}
model: my_net.py:net
loss: my_parts.py:focal
augment: [my_parts.py:cutout]
baseline: {depth: 1, width: 8, gamma: 0.0, size: 0, optimizer: adamw, lr: 0.003, batch_size: 64}
factors:
  norm: {levels: [batch, group]}
  gamma: {levels: [0.0, 2.0]}
search: {trials: 2, epochs: 2, grace_period: 1, reduction_factor: 2}
confirm: {design: one-factor, seeds: 2, delta: 1.0}
hypotheses: [norm batch > norm group]
"""


def written(place, text=STUDY, **files):
    """The study file and the code beside it, in a folder; files: name of a module and its text."""
    place.mkdir(parents=True, exist_ok=True)
    for name in ("my_net.py", "my_parts.py"):
        shutil.copy(OWN / name, place / name)
    for name, content in files.items():
        (place / f"{name}.py").write_text(content)
    (place / "mine.yaml").write_text(text)
    return place / "mine.yaml"


def loaded(place, text=STUDY, changes=None, **files):
    return own.load(written(place, text, **files), changes)


pytestmark = pytest.mark.usefixtures("warm_processes")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return loaded(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def trained(study, cache, place, epochs=1, code=True, **values):
    config = study.config(study.baseline_values() | values, seed=1)
    folder = Source(study.code, study.own.folder).unpack(place)
    training = Training(config, prepare(config.data, cache), code=folder)
    for _ in range(epochs):
        training.run_epoch()
    return training


def test_the_keywords_of_the_parts_are_settings_of_the_study(study):
    config = study.baseline_config(seed=0)
    assert (config.depth, config.width, config.act, config.norm, config.gamma, config.size) == (
        1,
        8,
        "relu",
        "batch",
        0.0,
        0,
    )
    assert config.blocks is None and config.kernel is None
    assert study.columns == ("norm", "gamma") and study.own_columns == {"norm": "str", "gamma": "float"}
    assert pickle.loads(pickle.dumps(config)) == config
    assert pickle.loads(pickle.dumps(config)).trial_id == config.trial_id


def test_a_study_is_data_and_is_read_without_its_code(study):
    content = json.loads(study.model_dump_json())
    assert "code" not in content
    again = build_study(content, "study.json")
    assert again.identity() == study.identity() and again.baseline_config(0) == study.baseline_config(0)
    assert again.study_hash == study.study_hash


def test_studies_without_own_code_keep_their_hashes():
    content = {"name": "x", "dataset": {"name": "digits"}, "factors": {"kernel": {"levels": [3, 5]}}}
    plain = build_study(content, "x")
    new = {"own", "metrics", "objective"}
    old = {key: value for key, value in plain.identity().items() if key not in new}
    assert new <= set(plain.identity()) and plain.study_hash == _hash(old)
    config = plain.baseline_config(0)
    assert type(config) is TrialConfig
    identity = {k: v for k, v in config.identity().items() if k not in legacy.LATER}
    assert config.trial_id == digest({"batch" if k == "batch_size" else k: v for k, v in identity.items()})[:12]


def _hash(identity):
    return digest(legacy.recorded(identity, legacy.STUDY))


def test_the_same_parts_at_the_top_and_in_the_baseline_are_one_study(tmp_path, study):
    text = STUDY.replace("model: my_net.py:net\n", "").replace("{depth: 1", "{model: my_net.py:net, depth: 1")
    assert loaded(tmp_path, text).study_hash == loaded(tmp_path / "b", STUDY).study_hash


def test_a_setting_may_be_called_like_anything_that_a_config_has(tmp_path, recwarn):
    """With the key of its part, as for a name that two parts have."""
    names = [name for name in dir(TrialConfig) if not name.startswith("_") and not hasattr(BaseModel, name)]
    assert {"stages", "own", "trial_id", "reads"} <= set(names)
    net = f"def net(shape, classes, *, {', '.join(f'{name}: int = 1' for name in names)}):\n    return None\n"
    text = STUDY.replace("depth: 1, width: 8", ", ".join(f"model.{name}: 2" for name in names))
    text = text.replace("norm: {levels: [batch, group]}", "model.stages: {levels: [2, 3]}").partition("hypoth")[0]
    config = loaded(tmp_path, text.replace("my_net.py:net", "named.py:net"), named=net).baseline_config(0)
    again = pickle.loads(pickle.dumps(config))
    assert again == config and again.trial_id == config.trial_id and "model.stages=2" in config.own_words
    assert not [str(said.message) for said in recwarn if "shadows" in str(said.message)]


SHARED = "def soft(logits, labels, *, gamma: float = 1.0, size: int = 2):\n    raise NotImplementedError\n"


def test_two_parts_that_share_a_keyword_are_told_apart(tmp_path):
    text = STUDY.replace("my_parts.py:focal", "soft.py:soft").replace("size: 0,", "loss.size: 5, cutout.size: 0,")
    found = loaded(tmp_path, text.replace("gamma: 0.0,", "loss.gamma: 2.0,"), soft=SHARED)
    config = found.baseline_config(0)
    assert (getattr(config, "loss.size"), getattr(config, "cutout.size"), config.gamma) == (5, 0, 2.0)
    changes = {
        "baseline.loss.size": 4,
        "factors.cutout.size.levels": [0, 4],
    }
    changed = loaded(tmp_path / "set", text.replace("cutout.size: 0,", ""), changes, soft=SHARED)
    assert getattr(changed.baseline_config(0), "loss.size") == 4
    assert "cutout.size" in changed.compared_factors()
    text = text.replace("loss.size: 5, cutout.size: 0,", "size: 0,")
    with pytest.raises(BadRequest, match=r"baseline.size: not a setting: could be cutout.size or loss.size, say which"):
        loaded(tmp_path, text, soft=SHARED)


def test_an_own_model_may_be_a_level_beside_built_in_ones(tmp_path):
    text = STUDY.replace("model: my_net.py:net\n", "").replace("depth: 1, width: 8, ", "model: cnn, ")
    text = text.replace("norm: {levels: [batch, group]}", "model: {levels: [cnn, my_net.py:net]}")
    text = text.replace("norm batch > norm group", "gamma 2 > gamma 0")
    found = loaded(tmp_path, text)
    assert found.config({"model": "cnn", "gamma": 0.0}, seed=0).width == 32
    mine = found.config({"model": "my_net.py:net", "gamma": 0.0}, seed=0)
    assert (mine.width, mine.depth, mine.norm) == (16, 2, "batch")
    assert found.config({"model": "cnn", "gamma": 0.0}, seed=0).depth is None


def test_the_network_is_the_user_s_and_its_sizes_are_counted(study, tmp_path):
    config = study.baseline_config(0)
    parts = OwnParts(config, Source(study.code, study.own.folder).unpack(tmp_path))
    model = build(config, (8, 8, 1), 10, parts)
    found = facts(model, config, (8, 8, 1))
    assert found.parameters == found.trainable == 8 * 9 + 2 * 8 + 8 * 10 + 10
    assert found.multiply_adds == 64 * 8 * 9 + 80
    assert rehearsal.built(study, [(config, (8, 8, 1), 10)]) == [found]


def test_loss_and_augmentation_are_used_and_an_epoch_repeats(study, cache, tmp_path):
    plain, focal = (trained(study, cache, tmp_path, gamma=gamma) for gamma in (0.0, 2.0))
    assert focal.history[0].train_loss < plain.history[0].train_loss
    again = trained(study, cache, tmp_path, gamma=2.0)
    assert again.history[0].train_loss == focal.history[0].train_loss
    builtin = build_study(json.loads(study.model_dump_json()), "x").baseline_config(1)
    assert builtin.gamma == 0.0
    moved = loaded(tmp_path / "s", STUDY.replace("size: 0", "size: 3"))
    assert trained(moved, cache, tmp_path, gamma=0.0).history[0].train_loss != plain.history[0].train_loss


OPTIMIZER = """
import torch
def plain(params, lr, *, momentum: float = 0.0):
    return torch.optim.SGD(params, lr=lr, momentum=momentum)
def linear(done, *, end: float = 0.5):
    return 1 - (1 - end) * done
"""


def test_an_own_optimizer_and_schedule_do_what_the_built_in_ones_do(cache, tmp_path):
    text = STUDY.replace(
        "optimizer: adamw", "optimizer: opt.py:plain, schedule: opt.py:linear, end: 1.0, momentum: 0.9"
    )
    mine = trained(loaded(tmp_path / "a", text, opt=OPTIMIZER), cache, tmp_path, epochs=2)
    theirs = trained(loaded(tmp_path / "b", STUDY.replace("adamw", "sgd")), cache, tmp_path, epochs=2)
    assert [row.train_loss for row in mine.history] == pytest.approx(
        [row.train_loss for row in theirs.history], rel=1e-5
    )
    assert mine.history[0].lr == 0.003
    falling = loaded(tmp_path / "c", text.replace("end: 1.0", "end: 0.0"), opt=OPTIMIZER)
    assert trained(falling, cache, tmp_path, epochs=2).history[1].lr < 0.001


def test_an_optimizer_of_torch_needs_no_file(cache, tmp_path):
    found = loaded(
        tmp_path / "a", STUDY.replace("optimizer: adamw", "optimizer: torch.optim:NAdam, momentum_decay: 0.01")
    )
    assert found.baseline_config(0).momentum_decay == 0.01
    assert trained(found, cache, tmp_path).history[0].lr == 0.003


STAGED = """
from torch import nn
class Net(nn.Module):
    def __init__(self, shape, classes, *, width: int = 8, twice: bool = False):
        super().__init__()
        first = nn.Sequential(nn.Conv2d(shape[2], width, 3, padding=1), nn.ReLU())
        second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.stages = nn.ModuleList([first, second])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
        self.twice = twice
    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return self.head(2 * x if self.twice else x)
"""


def test_a_network_with_stages_can_be_frozen_and_one_without_says_why_not(study, cache, tmp_path):
    text = (
        STUDY.replace("my_net.py:net", "staged.py:Net")
        .replace("depth: 1, ", "")
        .replace("norm: {levels: [batch, group]}", "frozen: {levels: [0, 1]}")
    )
    text = text.replace("augment: [my_parts.py:cutout]\n", "").replace("size: 0, ", "")
    text = text.replace("norm batch > norm group", "gamma 2 > gamma 0")
    found = loaded(tmp_path / "a", text, staged=STAGED)
    frozen = trained(found, cache, tmp_path, frozen=1)
    assert frozen.facts.trainable == frozen.facts.parameters - (9 * 8 + 8) and frozen.prefix_cached
    whole = study.config(study.baseline_values(), seed=0).model_copy(update={"frozen": 1})
    with pytest.raises(
        BadRequest, match=r"frozen=1 with model: my_net\.py:net: the network has no attributes `stages`"
    ):
        rehearsal.built(study, [(whole, (8, 8, 1), 10)])
    other = loaded(tmp_path / "b", text.replace("width: 8", "width: 8, twice: true"), staged=STAGED)
    with pytest.raises(BadRequest, match="forward computes something else"):
        rehearsal.built(other, [(other.baseline_config(0), (8, 8, 1), 10)])


NAMED = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, shape, classes, *, width: int = 8, twice: bool = False):
        super().__init__()
        self.stem = nn.Conv2d(shape[2], width, 3, padding=1)
        self.relu = nn.ReLU()
        self.layer = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, classes)
        self.twice = twice
    def forward(self, x):
        x = self.layer(self.relu(self.stem(x)))
        return self.fc(torch.flatten(self.pool(2 * x if self.twice else x), 1))
"""


def test_a_network_that_has_none_of_the_named_stages_can_be_compared_and_not_frozen(cache, tmp_path):
    text = """
dataset: {name: digits, limit: 300}
stages: [stem, layer]
baseline: {model: cnn}
factors: {model: {levels: [named.py:Net, named.py:plain, cnn]}}
search: {trials: 1, epochs: 1}
confirm: {seeds: 2}
"""
    plain = "def plain(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(400, classes))\n"
    found = loaded(tmp_path, text, named=NAMED + plain)
    staged, whole = (trained(found, cache, tmp_path, model=f"named.py:{name}") for name in ("Net", "plain"))
    assert hasattr(staged.model, "stages") and not hasattr(whole.model, "stages")
    with pytest.raises(BadRequest, match=r"frozen=1 with model: named\.py:plain"):
        trained(found, cache, tmp_path, model="named.py:plain", frozen=1)


def test_stages_that_the_study_names_can_be_frozen_and_handed_on(cache, tmp_path):
    text = """
dataset: {name: digits, limit: 300}
model: named.py:Net
stages: [stem, layer]
baseline: {width: 8, optimizer: adamw, lr: 0.003, batch_size: 64}
factors: {frozen: {levels: [0, 1, 2]}}
search: {trials: 1, epochs: 1}
confirm: {seeds: 2}
"""
    found = loaded(tmp_path / "a", text, named=NAMED)
    assert found.own.parts[0].stages == ("stem", "layer")
    whole, one, two = (trained(found, cache, tmp_path, frozen=frozen) for frozen in (0, 1, 2))
    assert whole.facts.trainable - one.facts.trainable == 9 * 8 + 8 and one.prefix_cached
    assert one.facts.trainable - two.facts.trainable == 8 * 8 * 9 + 8 and two.facts.trainable == 80 + 10
    folder = ResultsFolder.at(tmp_path / "r")
    folder.write_json("study.json", found.recorded())
    own_code.keep(folder, found, [])
    assert own_code.accept(found, folder, False) == []
    with pytest.raises(FolderRefused, match=r"Net\.stages: 'stem, layer' then, 'stem' now"):
        own_code.accept(loaded(tmp_path / "e", text.replace("stem, layer", "stem"), named=NAMED), folder, True)
    unnamed = loaded(tmp_path / "b", text.replace("stages: [stem, layer]\n", ""), named=NAMED)
    with pytest.raises(BadRequest, match="the study names no `stages`"):
        trained(unnamed, cache, tmp_path, frozen=1)
    for old, new, words in [
        ("[stem, layer]", "[stem, layers]", "stages: 'layers' is no module of .*did you mean 'layer'"),
        ("[stem, layer]", "[layer, stem]", "stages: layer, stem .allowed: in the order"),
        ("width: 8", "width: 8, twice: true", "forward computes something else; allowed: other `stages`"),
    ]:
        other = loaded(tmp_path / "c", text.replace(old, new), named=NAMED)
        with pytest.raises(BadRequest, match=words):
            rehearsal.built(other, [(other.baseline_config(0), (20, 20, 1), 10)])
    for old, new, words in [
        ("[stem, layer]", "[stem, stem]", "stages: need names of attributes"),
        ("[stem, layer]", "3", "stages: need names of attributes of the network, each once, got 3"),
        ("named.py:Net", "cnn", "stages: are those of a network of your own"),
    ]:
        with pytest.raises(BadRequest, match=words):
            loaded(tmp_path / "d", text.replace(old, new), named=NAMED)


def test_arms_start_from_the_named_stages_of_another_arm(cache, tmp_path):
    text = """
dataset: {name: digits, limit: 300}
model: named.py:Net
stages: [stem, layer]
baseline: {width: 8, optimizer: adamw, lr: 0.003, batch_size: 64}
arms: {taught: {}, onward: {source: taught, frozen: 2}, tuned: {source: taught, backbone_lr_ratio: 0.1}}
search: {epochs: 1}
confirm: {design: arms, seeds: 2}
"""
    found = loaded(tmp_path / "a", text, named=NAMED)
    rows = {(row["arm"], row["seed_block"]): row for row in run_here(found, tmp_path / "results", cache)}
    assert len(rows) == 6 and {row["status"] for row in rows.values()} == {"complete"}
    for block in (0, 1):
        kept = pretrained.read(tmp_path / f"results/weights/{rows['taught', block]['trial_id']}.safetensors")
        assert {key.partition(".")[0] for key in kept.tensors} == {"stages"}
        assert rows["taught", block]["weights_hash"] is None
        assert {rows[arm, block]["weights_hash"] for arm in ("onward", "tuned")} == {kept.digest}
    assert rows["onward", 0]["trainable"] == 80 + 10 < rows["tuned", 0]["trainable"]


LEVELS = "gamma: {levels: [0.5, 1.0, 2.0]}"
RAISES_AT = "def net(logits, labels, *, gamma: float = 1.0):\n    if gamma == %s: raise ValueError('not for me')\n"
WRONG = {  # what the parts do: text of wrong.py, the reference, words; and a factor
    "logits of another shape": (
        "def net(shape, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(400, 3))",
        "model",
        "(2, 3) for 2 images (allowed: logits of shape (2, 10))",
    ),
    "no module": ("def net(shape, classes): return 3", "model", "returned int"),
    "nothing to train": ("def net(shape, classes): return nn.Flatten()", "model", "no parameters to train"),
    "an error": ("def net(shape, classes):\n    return shape.nosuch", "model", 'File "wrong.py", line 4, in net'),
    "no gradient": ("def net(logits, labels): return logits.detach().mean()", "loss", "the loss has no gradient"),
    "no scalar": ("def net(logits, labels): return logits", "loss", "returned Tensor of shape"),
    "other images": (
        "def net(images, generator): return images[:, :, 1:]",
        "augment",
        "allowed: the same shape and type",
    ),
    "no gradient to the network": (
        "class net(nn.Module):\n    def __init__(self, shape, classes):\n        super().__init__()\n"
        "        self.flat, self.last = nn.Flatten(), nn.Linear(400, 10)\n"
        "    def forward(self, x): return self.last(self.flat(x)).detach()",
        "model",
        "no parameter of the network gets a gradient from the loss\nown code in use: model: wrong.py:net\n",
    ),
    "a loss that is no number": (
        "def net(logits, labels): return logits.mean() * float('nan')",
        "loss",
        "the loss of the first batch is nan (allowed: a finite number)",
    ),
    "a metric that is no number": (
        "def net(labels, scores): return float('nan')",
        "metrics",
        "returned nan (allowed: a finite number)",
    ),
    "a metric with an error": (
        "def net(labels, scores): return labels.nosuch",
        "metrics",
        'File "wrong.py", line 3, in net',
    ),
    "not the same twice": (
        "import random\ndef net(logits, labels): return logits.mean() * random.SystemRandom().random()",
        "loss",
        "when it is run again with the same seed",
    ),
    "an exit": (
        "import sys\ndef net(shape, classes):\n    sys.exit(3)",
        "model",
        "model: wrong.py:net: SystemExit: 3 (wrong.py, line 5, in net)\nat its defaults\n"
        'Traceback (most recent call last):\n  File "wrong.py", line 5, in net\n',
    ),
    "an exit of Python": (
        "import os\ndef net(shape, classes): os._exit(3)",
        "model",
        "model: wrong.py:net: at the baseline: Python ended (3) when its own code was tried",
    ),
    "an interrupt": (
        "def net(shape, classes): raise KeyboardInterrupt",
        "model",
        "model: wrong.py:net: KeyboardInterrupt (wrong.py, line 3, in net)\nat its defaults\n",
    ),
    "a metric that is random": (
        "import random\ndef net(labels, scores): return random.random()",
        "metrics",
        "of the same labels and logits (allowed: a function of these alone)",
    ),
    "an optimizer that needs a closure": (
        "def net(params, lr): return torch.optim.LBFGS(params, lr)",
        "optimizer",
        "optimizer: wrong.py:net: its step() needs closure (allowed: a step() without arguments",
    ),
    "an optimizer of something else": (
        "def net(params, lr): return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)",
        "optimizer",
        "optimizer: wrong.py:net: it has no parameter of the network",
    ),
    "a schedule below 0": (
        "def net(done): return 1 - 2 * done",
        "schedule",
        "schedule: wrong.py:net: returned float (-0.02",
    ),
    "a schedule that is no number late in the run": (
        "def net(done): return 1.0 if done < 0.9 else float('nan')",
        "schedule",
        "schedule: wrong.py:net: returned float (nan) (allowed: a finite number, 0 or more)",
    ),
    "a network that no checkpoint can keep": (
        "class net(nn.Linear):\n    def __init__(self, shape, classes): super().__init__(400, classes)\n"
        "    def forward(self, x): return super().forward(x.flatten(1))\n"
        "    def get_extra_state(self): return lambda: 3",
        "model",
        "model: wrong.py:net: its state cannot be kept in a checkpoint: ['_extra_state'] is a function (allowed: "
        "tensors, numbers, text, None, and lists, tuples and dicts of these)",
    ),
    "a state that cannot be read again": (
        "import fractions\nclass net(torch.optim.SGD):\n    def step(self, closure=None):\n"
        "        super().step(closure)\n"
        "        for value in self.param_groups[0]['params']: self.state[value]['part'] = fractions.Fraction(1, 3)",
        "optimizer",
        "optimizer: wrong.py:net: its state cannot be kept in a checkpoint: [0]['part'] is a Fraction (allowed: "
        "tensors, numbers",
    ),
    "a loss at the largest point alone": (
        RAISES_AT % 2.0 + "    return logits.square().mean()",
        "loss",
        "loss: wrong.py:net: ValueError: not for me (wrong.py, line 4, in net)\nat gamma=2.0 (the largest point)\n"
        "Traceback (most recent call last):\n",
        LEVELS,
    ),
    "a loss at the smallest point alone": (
        RAISES_AT % 0.5 + "    return logits.square().mean()",
        "loss",
        "not for me (wrong.py, line 4, in net)\nat gamma=0.5 (the smallest point)\n",
        LEVELS,
    ),
    "an augmentation at the largest point alone": (
        "def net(images, generator, *, gamma: float = 1.0): return images[:, :, int(gamma > 1) :]",
        "augment",
        "allowed: the same shape and type)\nat gamma=2.0 (the largest point)",
        LEVELS,
    ),
    "an optimizer at the largest point alone": (
        "def net(params, lr, *, gamma: float = 1.0): return torch.optim.SGD(params, lr=lr, momentum=1 - gamma)",
        "optimizer",
        "optimizer: wrong.py:net: ValueError: Invalid momentum value: -1.0 (wrong.py, line 3, in net)\nat gamma=2.0",
        LEVELS,
    ),
    "a schedule at the largest point alone": (
        "def net(done, *, gamma: float = 1.0): return [1.0][int(gamma) - 1]",
        "schedule",
        "schedule: wrong.py:net: IndexError: list index out of range (wrong.py, line 3, in net)\nat gamma=2.0",
        LEVELS,
    ),
}


def wrong(case):
    """The study of a wrong part, and the file that has it."""
    text, key, _, *factors = WRONG[case]
    return brought(text, key, *factors)


def brought(text, key, factors="lr: {low: 0.01, high: 0.1}", baseline=""):
    """A study that uses one part, and the file that has it: what `loaded` takes. key: empty where a factor names it."""
    plain = "dataset: {name: digits, limit: 300}\nconfirm: {design: none}\n"
    plain += f"factors: {{{factors}}}\nbaseline: {{{baseline}}}\n"
    value = "[wrong.py:net]" if key in ("metrics", "augment") else "wrong.py:net"
    used = f"{key}: {value}\n" if key else ""
    return {"text": plain + used, "wrong": f"import torch\nfrom torch import nn\n{text}\n"}


def rehearsed(study, cache):
    """What is said before the first trial."""
    data = study.baseline_config(0).data
    prepare(data, cache)
    return rehearsal.try_parts(study, {data_key(study.baseline_config(0)): ((20, 20, 1), 10)}, cache)


def test_networks_that_were_tried_are_not_built_again_to_be_counted(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "_sizes", {})
    study, size = loaded(tmp_path, STUDY), ((20, 20, 1), 10)
    prepare(study.baseline_config(0).data, cache)
    networks = own_networks(study)
    assert len(networks) > 1
    rehearsal.try_parts(study, {data_key(networks[0]): size}, cache)
    monkeypatch.setattr(rehearsal, "ask", None)
    more = [network.model_copy(update={"lr": 0.5, "seed": 9}) for network in networks]  # which no network reads
    assert rehearsal.built(study, [(network, *size) for network in networks + more]) == 2 * [
        rehearsal.built(study, [(network, *size)])[0] for network in networks
    ]
    with pytest.raises(TypeError):
        rehearsal.built(study, [(networks[0], (20, 20, 1), 11)])


HOOKED = """
def net(params, lr):
    found = torch.optim.SGD(params, lr)
    found.register_step_pre_hook(lambda *given: 1 / 0)
    return found
"""
WRAPPED = """
import functools

def twice(step):
    @functools.wraps(step)
    def wrapper(*given):
        1 / 0
    return wrapper

class net(torch.optim.SGD):
    step = twice(torch.optim.SGD.step)
"""


@pytest.mark.parametrize("text", [HOOKED, WRAPPED, HOOKED.replace("found.register_step_pre_hook(", "found.step = (")])
def test_an_own_optimizer_runs_with_its_hooks_and_with_what_is_wrapped_around_its_step(text, cache, tmp_path):
    with pytest.raises(BadRequest, match=r"optimizer: wrong.py:net: ZeroDivisionError: division by zero \(wrong.py"):
        rehearsed(loaded(tmp_path, **brought(text, "optimizer")), cache)


def test_a_metric_that_works_in_place_changes_no_other(cache, tmp_path):
    text = "def net(labels, scores):\n    scores[:] = 0\n    labels[:] = 0\n    return 0.5"
    study = loaded(tmp_path, **brought(text, "metrics"))
    plain = loaded(tmp_path / "plain", **brought("", "")).model_copy(update={"metrics": ["macro_f1"]})
    with_own = study.model_copy(update={"metrics": [*study.metrics, "macro_f1"]})
    found = [run_here(one, tmp_path / one_name, cache)[0] for one_name, one in (("a", with_own), ("b", plain))]
    assert found[0]["val_macro_f1"] == found[1]["val_macro_f1"] < 1 and found[0]["val_net"] == 0.5


@pytest.mark.parametrize("case", WRONG)
def test_what_a_part_does_wrong_is_said_before_the_first_trial(case, cache, tmp_path):
    with pytest.raises(BadRequest, match=re.escape(WRONG[case][2])):
        rehearsed(loaded(tmp_path, **wrong(case)), cache)


def test_far_from_the_baseline_a_trial_may_diverge_or_run_out_of_memory(cache, tmp_path):
    text = (
        "def net(logits, labels, *, gamma: float = 1.0):\n    if gamma < 1: raise MemoryError('of 1 TiB')\n"
        "    return logits.square().mean() * (float('inf') if gamma > 1 else 1.0)"
    )
    assert rehearsed(loaded(tmp_path, **brought(text, "loss", LEVELS)), cache) == [
        "MemoryError: of 1 TiB, at gamma=0.5 (the smallest point)",
        "the loss of the first batch is inf, at gamma=2.0 (the largest point)",
    ]
    with pytest.raises(BadRequest, match=r"first batch is inf \(allowed: a finite number\)\nat gamma=2.0$"):
        rehearsed(loaded(tmp_path / "b", **brought(text, "loss", LEVELS, "gamma: 2.0")), cache)


def test_each_point_costs_one_batch_and_none_where_no_own_part_is_used(cache, tmp_path):
    text = (
        "from pathlib import Path\ndef net(logits, labels, *, gamma: float = 1.0):\n"
        f"    with Path({str(tmp_path / 'calls')!r}).open('a') as log: print(gamma, len(labels), file=log)\n"
        "    return nn.functional.cross_entropy(logits, labels)"
    )

    def calls(factors, key="loss"):
        (tmp_path / "calls").write_text("")
        assert rehearsed(loaded(tmp_path / "s", **brought(text, key, factors, "batch_size: 32")), cache) == []
        return [tuple(map(float, line.split())) for line in (tmp_path / "calls").read_text().splitlines()]

    whole = [(1.0, 32)] * 2
    assert calls(f"{LEVELS}, batch_size: {{levels: [8, 32, 64]}}") == [*whole, (0.5, 8), (2.0, 32)]
    assert calls("gamma: {levels: [1.0, 2.0]}") == [*whole, (2.0, 32)]
    assert calls("lr: {levels: [0.1, 0.2]}, loss: {levels: ['wrong.py:net', cross-entropy]}", "") == [(1.0, 32)]


BAD = {  # a change of the study, the code beside it, and words of the one message
    "no such file": (
        "model: my_net.py:net",
        "model: my_nett.py:net",
        "",
        ["model: my_nett.py:net", "did you mean 'my_net.py'?"],
    ),
    "no such name": ("my_net.py:net", "my_net.py:nett", "", ["no 'nett' in my_net.py", "did you mean 'net'?"]),
    "not callable": ("my_net.py:net", "my_net.py:ACTIVATIONS", "", ["is a dict", "allowed: a function or a class"]),
    "raises on import": (
        "my_net.py:net",
        "bad.py:net",
        "1 / 0\ndef net(shape, classes): pass",
        ["bad.py", "line 1", "ZeroDivisionError"],
    ),
    "takes a minute": (
        "my_net.py:net",
        "bad.py:net",
        "import time; time.sleep(60)\ndef net(shape, classes): pass",
        ["not imported after 2 s", "line 1"],
    ),
    "takes other arguments": ("my_net.py:net", "bad.py:net", "def net(): pass", ["allowed: (shape, classes) first"]),
    "an untyped argument": (
        "my_net.py:net",
        "bad.py:net",
        "def net(shape, classes, *, n): pass",
        ["'n' has neither annotation nor default", "`n: int = 1`"],
    ),
    "an unknown setting": ("depth: 1", "dept: 1", "", ["baseline.dept: not a setting", "did you mean 'depth'?"]),
    "a wrong value": ("depth: 1", "depth: x", "", ["depth: need a whole number, got the text 'x'"]),
    "a wrong level": ("[batch, group]", "[batch, layer]", "", ["factors.norm: level 'layer'", "'batch' or 'group'"]),
    "null as a level": (
        "[batch, group]",
        "[batch, null]",
        "",
        ["factors.norm: levels: null cannot be a level", "allowed: a value that stands for it"],
    ),
    "an unknown metric": (
        "hypotheses",
        "metrics: [f1]\nhypotheses",
        "",
        ["metrics: 'f1' is not known", "file.py:name"],
    ),
    "an objective that is none": ("hypotheses", "objective: f1\nhypotheses", "", ["objective: 'f1' is no metric"]),
    "a part twice": (
        "optimizer: adamw",
        "model: cnn, optimizer: adamw",
        "",
        ["model and baseline.model are one setting"],
    ),
    "a section of ours": ("hypotheses", "own: {}\nhypotheses", "", ["own: is written by resnetlab"]),
}


LISTS = """
import numpy as np
from torch import nn


def net(shape, classes, *, depth: int = 1, sizes: list[int] = (3,)):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

def images(*, number: int = 40, sizes: list[int] = (3,)):
    return np.zeros((number, 8, 8), np.uint8), np.arange(number) % 2

def sample(space, done, seed, *, sizes: list[int] = (3,)):
    return {}
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("baseline: {sizes: 3}\nfactors: {depth: {levels: [1, 2]}}", "baseline.sizes: not a setting: in lists.py:net"),
        (
            "baseline: {model.sizes: 3}\nfactors: {depth: {levels: [1, 2]}}",
            "baseline.model.sizes: not a setting: in li",
        ),
        ("factors: {sizes: {levels: [1, 2]}}", "factors: 'sizes' is not a factor: in lists.py:net"),
        ("arms: {a: {}, b: {sizes: 3}}", "arms.b.sizes: not a setting: in lists.py:net"),
        (
            "factors: {depth: {levels: [1, 2]}}\nsearch: {sampler: lists.py:sample, sizes: 3}",
            "search.sizes: not a setting: in lists.py:sample",
        ),
        (
            "factors: {depth: {levels: [1, 2]}}\ndataset: {name: lists.py:images, sizes: 3}",
            "dataset.sizes: not a setting: in lists.py:images",
        ),
    ],
)
def test_an_argument_that_no_setting_can_have_is_refused_with_the_reason(text, words, tmp_path):
    design = "confirm: {design: arms}" if "arms" in text else "confirm: {seeds: 2}"
    data = "" if "dataset" in text else "dataset: {name: digits}\n"
    with pytest.raises(BadRequest) as caught:
        loaded(tmp_path, f"{data}model: lists.py:net\n{text}\n{design}\n", lists=LISTS)
    assert words in str(caught.value) and "it has the type list[int]" in str(caught.value), caught.value


@pytest.fixture(scope="module")
def door():
    with Door("ablation") as opened:
        yield opened


@pytest.mark.parametrize("case", BAD)
def test_bad_references_end_with_one_message_and_leave_nothing(case, door, tmp_path):
    old, new, code, words = BAD[case]
    place = tmp_path / "p"
    assert old in STUDY
    written(place, STUDY.replace(old, new), **({"bad": code} if code else {}))
    (place / "home").mkdir()
    (place / "tmp").mkdir()
    before = tree(place)
    ended = door.call(place, "--study", "mine.yaml", RESNETLAB_CACHE=str(place / "cache"))
    assert ended.code == 2 and ended.err.startswith("error: ") and ended.err.count("error: ") == 1, ended
    assert all(word in ended.err for word in words) and "mine.yaml" in ended.err, ended.err
    assert tree(place) == before and ended.alone


def test_the_process_that_waits_to_try_the_code_ends_with_a_driver_that_is_killed(tmp_path):
    """It is started before the code is imported, which takes longer here than the driver lives."""
    slow = "import time; time.sleep(1.5)\ndef net(shape, classes): pass"
    study = written(tmp_path, STUDY.replace("my_net.py:net", "slow.py:net"), slow=slow)
    command = [sys.executable, str(ROOT / "sweeps/ablation.py"), "--study", str(study)]

    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        below = psutil.Process(driver.pid)
        while not (found := [one for one in below.children() if "resnetlab.vision.rehearsal" in one.cmdline()]):
            assert driver.poll() is None
            time.sleep(0.02)
        driver.kill()
    found[0].wait(60)


def test_what_an_import_prints_does_not_spoil_the_study(tmp_path):
    text = "print('{}')\n" + (OWN / "my_net.py").read_text()
    assert loaded(tmp_path, STUDY.replace("my_net.py", "loud.py"), loud=text).own.parts[0].text == "loud.py:net"


@pytest.fixture(scope="module")
def results(study, cache, tmp_path_factory):
    """A whole sweep with the workers of this process, whose code is then deleted."""
    place = tmp_path_factory.mktemp("results") / study.name
    folder = ResultsFolder.at(place)
    folder.write_json("study.json", study.model_dump(mode="json"))
    run_here(study, place, cache)
    return place


def test_tables_and_report_open_without_the_code(results):
    found = Results.open(results)
    assert set(found.trials["status"]) <= {"complete", "stopped"} and len(found.confirm) == 6
    assert set(found.trials["norm"]) == {"batch", "group"} and found.trials["gamma"].dtype == float
    assert "batch_size" not in str(found.planned.contrasts)  # `batch` is a level here, not the old name of a setting
    text = build_report(results).read_text()
    assert "my_net.py:net" in text and "gamma" in text


def test_the_code_is_in_the_folder_and_a_trial_runs_again_from_it(results, cache):
    folder = ResultsFolder.at(results)
    row = rerun.find(folder, "0")
    assert folder.read_json("study.json")["own"]["source"].startswith(json.loads(row["settings"])["code"])
    outcome = rerun.rerun(folder, row, rerun.Place(cache=cache), lambda line: None)
    assert outcome.identical and outcome.compared


def test_changed_code_is_refused_with_file_and_definition_unless_accepted(results, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    folder = ResultsFolder.at(copy)
    layout = loaded(tmp_path / "a", my_net="# a remark\n" + (OWN / "my_net.py").read_text())
    assert own_code.accept(layout, folder, False) == []
    other = loaded(
        tmp_path / "b", my_net=(OWN / "my_net.py").read_text().replace("width, 2 * width", "width, 3 * width")
    )
    check_identity(other.model_copy(update={"name": "mine"}), folder)
    with pytest.raises(FolderRefused, match=r"study/my_net.py: net changed\n.*--accept-changed-code"):
        own_code.accept(other, folder, False)
    lines = own_code.accept(other, folder, True)
    assert lines == ["study/my_net.py: net changed"]
    own_code.keep(folder, other, lines)
    assert any("study/my_net.py: net changed" in note for note in Results.open(copy).notes)
    grown = loaded(tmp_path / "c", my_net=(OWN / "my_net.py").read_text().replace("depth: int = 2", "depth: int = 3"))
    with pytest.raises(FolderRefused, match=r"depth.default: 2 then, 3 now"):
        own_code.accept(grown, folder, True)
    (copy / "code" / other.own.source[:12] / "study/my_net.py").write_text("edited")
    with pytest.raises(FolderRefused, match="not as it was written"):
        own_code.read(folder, other.own.source)


RAISES = """
def loss(logits, labels, *, gamma: float = 0.0):
    return helper(logits)
def helper(logits):
    return logits.nosuch
"""


def test_an_error_in_own_code_is_the_user_s_traceback_and_four_of_them_end_the_sweep(cache, tmp_path):
    found = loaded(
        tmp_path / "s", STUDY.replace("my_parts.py:focal", "bad.py:loss").replace("trials: 2", "trials: 9"), bad=RAISES
    )
    with pytest.raises(TrialsFailed) as caught:
        run_here(found, tmp_path / "r", cache)
    message = str(caught.value)
    assert "the first 4 trials failed" in message and "epoch 1: AttributeError" in message
    assert '  File "bad.py", line 3, in loss\n' in message and '  File "bad.py", line 5, in helper\n' in message
    assert "gamma" in message and "resnetlab/vision" not in message
    (first, *_) = sorted((tmp_path / "r" / "errors").iterdir())
    assert "settings: model my_net.py:net" in first.read_text() and "loop.py" not in first.read_text()


def test_errors_elsewhere_are_told_as_before():
    try:
        torch.zeros(2) @ torch.zeros(3)
    except RuntimeError as error:
        assert "test_own_code.py" in Ending.of(error, Path("/nowhere")).reason


def test_a_trial_goes_on_from_no_checkpoint_of_other_code(tmp_path):
    folder = ResultsFolder.at(tmp_path)
    before = TrialCheckpoints(folder, "t", stays=True, code="old")
    before.save({"history": [1], "trial_id": "t"})
    before.keep({"history": [1], "trial_id": "t"})
    assert len(TrialCheckpoints(folder, "t", code="old").states) == 1
    assert kept_state(folder, "t", 1, "old")["history"] == [1]
    after = TrialCheckpoints(folder, "t", code="new")
    assert not after.states and after.problems[0].endswith("is of the code before it changed")
    with pytest.raises(checkpoint.CheckpointDamaged, match="is of the code before it changed"):
        kept_state(folder, "t", 1, "new")


def test_a_trial_that_changed_code_has_run_is_told_in_its_row_the_report_and_when_it_is_run_again(results, tmp_path):
    then = {"settings": json.dumps({"code": "old", "precision": "fp32"}), "epochs_run": 1}
    mixed = with_codes(then, json.dumps({"code": "new"}))
    assert json.loads(mixed) == {"code": "new", "codes_before": ["old"]}
    assert with_codes({"settings": mixed, "epochs_run": 2}, json.dumps({"code": "new"})) == mixed
    assert json.loads(with_codes(then | {"epochs_run": 0}, '{"code": "new"}')) == {"code": "new"}
    assert with_codes(then, '{"code": "old"}') == '{"code": "old"}'

    shutil.copytree(results, tmp_path / "copy")
    folder = ResultsFolder.at(tmp_path / "copy")
    found = read_table(folder, "trials").to_pylist()
    found[1]["settings"] = json.dumps(json.loads(found[1]["settings"]) | {"codes_before": ["old"]})
    write_table(folder, "trials", pa.Table.from_pylist(found, read_table(folder, "trials").schema))
    folder.sub("code").write_json("accepted.json", {"changes": [{"to": "new", "changes": ["net changed"]}]})
    notes = Results.open(tmp_path / "copy").notes
    assert any(
        f"1 trial had begun before that change and ended after it ({found[1]['trial_id']})" in one for one in notes
    )
    lines = rerun.changes(found[1], "cpu", None)
    assert "its first epochs ran the own code of version old, before an accepted change" in lines


@pytest.mark.long
@pytest.mark.slow
def test_a_study_with_own_code_is_killed_and_continued(tmp_path):
    text = STUDY.replace("trials: 2, epochs: 2", "trials: 3, epochs: 3")
    written(tmp_path, text)
    with (tmp_path / "my_net.py").open("a") as file:
        file.write("\n\nprint('my_net.py was read')\n")
    env = os.environ | {"RESNETLAB_CACHE": str(tmp_path / "cache"), "RAY_TMPDIR": "/tmp"}
    command = [
        sys.executable,
        str(ROOT / "sweeps/ablation.py"),
        "--study",
        "mine.yaml",
        "--storage",
        str(tmp_path / "r"),
    ]
    elsewhere = {"cwd": tmp_path, "env": env, "text": True}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **elsewhere)
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None and not list((tmp_path / "r").rglob("segments/*")):
        time.sleep(0.1)
    time.sleep(2)
    process.kill()
    process.wait()
    done = subprocess.run(command, capture_output=True, timeout=580, **elsewhere)
    assert done.returncode == 0, done.stderr
    for name in ("mine.yaml", "my_net.py", "my_parts.py"):
        (tmp_path / name).unlink()
    found = Results.open(tmp_path / "r/mine")
    assert set(found.confirm["status"]) == {"complete"} and len(found.confirm) == 6
    printed = {file.stem: file.read_text() for file in (tmp_path / "r/mine/printed").iterdir()}
    assert set(printed) <= set(found.trials["trial_id"]) and printed
    assert {line for text in printed.values() for line in text.splitlines()} == {"my_net.py was read"}
    again = [sys.executable, str(ROOT / "sweeps/trial.py"), str(tmp_path / "r/mine"), "0"]
    done = subprocess.run(again, capture_output=True, timeout=300, **elsewhere)
    assert done.returncode == 0 and "identical" in done.stdout, done.stdout + done.stderr
