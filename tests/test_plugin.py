"""A package that registers a network under a short name: installed by pip, studied from the command line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docs_here import PAGE, written

from resnetlab.analysis.results import Results
from resnetlab.cli.dry_run import dry_run
from resnetlab.driver.options import Options
from resnetlab.experiment import own
from resnetlab.experiment.protocol import KINDS

ROOT = Path(__file__).resolve().parents[1]
STUDY = """
dataset: {name: digits, limit: 200}
model: tiny
baseline: {width: 4, batch_size: 32}
factors: {bias: {levels: [true, false]}}
search: {trials: 1, epochs: 1}
confirm: {seeds: 2}
"""
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "NAME"
version = "1.0"
[project.entry-points."resnetlab.models"]
tiny = "NAME.nets:tiny"
"""
NETS = """
from torch import nn

def tiny(shape, classes, *, width: int = 8, bias: bool = True):
    pool, convolution = nn.AdaptiveAvgPool2d(1), nn.Conv2d(shape[2], width, 3, bias=bias)
    return nn.Sequential(convolution, nn.ReLU(), pool, nn.Flatten(), nn.Linear(width, classes))
"""


def installed(name, place):
    """The folder into which pip has installed a package that registers the network `tiny`."""
    source = place / f"source-{name}"
    (source / name).mkdir(parents=True)
    (source / "pyproject.toml").write_text(PROJECT.replace("NAME", name))
    (source / name / "__init__.py").touch()
    (source / name / "nets.py").write_text(NETS)
    return by_pip(source, place / f"site-{name}")


def by_pip(source, target):
    """The folder `target`, into which pip has installed the package of the folder `source`."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    command = [*pip, "--no-deps", "--no-build-isolation", "--target", target, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    place = tmp_path_factory.mktemp("packages")
    return [installed(name, place) for name in ("one_nets", "two_nets")]


def sweep(place, sites, study=STUDY, options=("--dry-run",)):
    (place / "mine.yaml").write_text(study)
    path = os.pathsep.join(map(str, [ROOT, *sites]))
    env = os.environ | {"PYTHONPATH": path, "RESNETLAB_CACHE": str(place / "cache"), "RAY_TMPDIR": "/tmp"}
    command = [sys.executable, "-m", "resnetlab", "sweep", "--study", "mine.yaml", "--slots", "1", *options]
    return subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)


def test_a_network_of_an_installed_package_is_studied_by_its_short_name(sites, tmp_path):
    done = sweep(tmp_path, sites[:1])
    assert done.returncode == 0, done.stderr
    assert "bias (compared): on, off" in done.stdout and "90 parameters" in done.stdout


REGISTERED = {  # group: short name, where it leads
    "models": ("small", "my_net:net"),
    "losses": ("focal", "my_loss:focal"),
    "augmentations": ("hole", "my_parts:cutout"),
    "optimizers": ("nadam", "torch.optim:NAdam"),
    "schedules": ("halves", "my_training:halves"),
    "datasets": ("stripes", "my_data:stripes"),
    "metrics": ("worst", "my_parts:worst_class"),
    "samplers": ("near", "my_search:near_the_best"),
    "stopping_rules": ("third", "my_search:last_third"),
    "tasks": ("regression", "my_task:train"),
}
OF_IMAGES = """
dataset: {name: stripes, number: 90, test_fraction: 0.3}
model: small
loss: focal
augment: [hole]
optimizer: nadam
schedule: halves
metrics: [accuracy, worst]
objective: worst
baseline: {width: 4, depth: 1, batch_size: 32, lr: 0.01, power: 1, size: 2, gamma: 1.0}
factors: {norm: {levels: [batch, group]}}
search: {sampler: near, spread: 0.2, stopping: third, least: 4, trials: 2, epochs: 1}
confirm: {seeds: 2}
"""


def test_a_package_may_register_every_kind_of_part(tmp_path, monkeypatch, capsys, warm_processes):
    """What a part does wrong would be found: a dry run tries each, the sampler and the stopping rule as well."""
    site = tmp_path / "site"
    written(site, "my_net.py", "my_loss.py", "my_data.py", "my_search.py")
    for name in ("my_parts.py", "my_task.py"):
        shutil.copy(ROOT / "tests/own_code" / name, site)
    (site / "my_training.py").write_text("def halves(done, *, power: int = 1):\n    return (1 - done / 2) ** power\n")
    info = site / "all_kinds-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: all-kinds\nVersion: 1.0\n")
    groups = [f"[resnetlab.{group}]\n{name} = {value}\n" for group, (name, value) in REGISTERED.items()]
    (info / "entry_points.txt").write_text("".join(groups))
    assert {f"resnetlab.{group}" for group in REGISTERED} == {kind.group for kind in KINDS.values()}
    of_a_task = (ROOT / "tests/own_code/own-task.yaml").read_text().replace("my_task.py:train", "regression")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(tmp_path)
    for text, said in ((OF_IMAGES, "explore: 2 trials (near)"), (of_a_task, "task: regression")):
        (tmp_path / "mine.yaml").write_text(text)
        dry_run(own.load(tmp_path / "mine.yaml"), Options(cache=tmp_path / "cache"))
        assert said in capsys.readouterr().out


def test_a_slip_in_a_registered_name_is_answered_with_that_name(sites, tmp_path):
    done = sweep(tmp_path, sites[:1], STUDY.replace("model: tiny", "model: tinny"))
    assert done.returncode == 2
    assert "model: 'tinny' is not known (did you mean 'tiny'?); or your own: file.py:name" in done.stderr


def test_a_name_that_two_packages_register_is_refused_with_both(sites, tmp_path):
    done = sweep(tmp_path, sites, options=())
    assert done.returncode == 2 and done.stderr.count("error: ") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["mine.yaml"]
    words = ["model: 'tiny' is registered by", "one_nets", "two_nets", "allowed: one_nets.nets:tiny or two_nets.nets"]
    assert all(word in done.stderr for word in words), done.stderr


def test_the_package_of_the_docs_is_swept_and_refused_once_it_has_changed(tmp_path):
    """A changed function, and an entry point that leads to another one; `--accept-changed-code` goes on."""
    written(tmp_path, "tiny-nets/pyproject.toml", "tiny-nets/tiny_nets.py")
    site = by_pip(tmp_path / "tiny-nets", tmp_path / "site")
    (study,) = [part for part in PAGE.read_text().split("```yaml\n") if "model: tiny\n" in part]
    study = study.partition("```")[0]
    done = sweep(tmp_path, [site], study, ())
    assert done.returncode == 0, done.stderr
    found = Results.open(tmp_path / "results/mine")
    assert found.plan.metric.name == "test_worst_class" and found.plan.metric.unit == "%"
    assert set(found.confirm["status"]) == {"complete"} and len(found.confirm) == 4
    assert (found.confirm["test_worst_class"] <= found.confirm["test_accuracy"]).all()
    assert sweep(tmp_path, [site], study).returncode == 0, "nothing has changed"

    def refused(words, file, old, new, *options):
        before = file.read_text()
        assert old in before
        file.write_text(before.replace(old, new))
        done = sweep(tmp_path, [site], study, options)
        assert done.returncode == 4 and words in done.stderr and "--accept-changed-code" in done.stderr, done.stderr
        file.write_text(before)

    module = site / "tiny_nets.py"
    (entries,) = site.glob("tiny_nets-*.dist-info/entry_points.txt")
    refused("packages/tiny_nets.py: tiny changed", module, "nn.ReLU()", "nn.Tanh()")
    module.write_text(
        module.read_text() + "\n\ndef other(shape, classes, *, width: int = 8, bias: bool = True):\n    pass\n"
    )
    done = sweep(tmp_path, [site], study, ("--accept-changed-code",))
    assert done.returncode == 0, done.stderr
    assert "tiny_nets.py: other added" in (tmp_path / "results/mine/report.html").read_text()
    refused("packages/tiny-nets/entry_points.txt: changed", entries, "tiny_nets:tiny", "tiny_nets:other", "--dry-run")


ON_A_NODE = """
import sys
from pathlib import Path
from resnetlab.experiment.messages import TrialContext
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.vision.own_files import unpacked
folder = ResultsFolder.at(sys.argv[1])
(code,) = [place.name for place in Path(sys.argv[1], "code").iterdir() if place.is_dir()]
context = TrialContext(folder=folder.place, cache=Path("cache"), cpus=1, gpus=0, epoch_timeout_s=60, code=code)
print(unpacked(folder, context).is_dir())
"""


def test_a_node_and_a_trial_run_again_name_what_differs_in_an_installed_package(sites, tmp_path):
    done = sweep(tmp_path, sites[:1], options=())
    assert done.returncode == 0, done.stderr
    other = shutil.copytree(sites[0], tmp_path / "other")
    nets = other / "one_nets" / "nets.py"

    def run(site, *command):
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, [ROOT, site])),
            "RESNETLAB_CACHE": str(tmp_path / "cache"),
        }
        return subprocess.run([sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True)

    def node(site):
        return run(site, "-c", ON_A_NODE, str(tmp_path / "results/mine"))

    def again(site):
        return run(site, "-m", "resnetlab", "trial", "results/mine", "1")

    assert node(sites[0]).stdout == "True\n"
    said = again(sites[0])
    assert said.returncode == 0 and "packages/" not in said.stdout, said.stdout + said.stderr
    nets.write_text(nets.read_text() + "\n# a remark changes nothing\n")
    assert node(other).stdout == "True\n"
    nets.write_text(nets.read_text().replace("nn.ReLU()", "nn.Tanh()"))
    refused = node(other).stderr
    assert "NodeRefused: node " in refused and "packages/one_nets/nets.py: tiny changed" in refused, refused
    assert "packages/one_nets/nets.py: tiny changed in the package that is installed now" in again(other).stdout
    absent = node(tmp_path).stderr
    assert "NodeRefused: node " in absent and "packages/one_nets/nets.py: removed" in absent, absent
