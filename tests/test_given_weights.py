"""`--weights FILE`: checked against every network before anything runs, stored, and used as initial weights."""

import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from sweeps_here import run_here

from resnetlab.analysis.failures import failures
from resnetlab.analysis.results import Results
from resnetlab.driver.checks import initial_weights
from resnetlab.driver.checks.extend import check_identity
from resnetlab.errors import BadData, BadRequest, FolderRefused, TrialsFailed
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table
from resnetlab.study import build_study
from resnetlab.sweep.task import data_key
from resnetlab.vision.data import prepare
from resnetlab.vision.models import build
from resnetlab.vision.models.pretrained import Weights, read
from resnetlab.vision.training import kept_weights, transfer

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"model": "resnet18", "weights": "IMAGENET1K_V1", "frozen": 5, "batch_size": 16}
STUDY = """
dataset: {name: glyphs, variants: 1, limit: 40}
baseline: {batch_size: 16, lr: 0.01}
arms:
  plain: {model: resnet, blocks: 1, downsample: 1, width: 4}
  started: {model: resnet18, weights: IMAGENET1K_V1, frozen: 5}
search: {epochs: 1}
confirm: {design: arms, seeds: 1}
"""


def study(baseline=None, **arms):
    content = {"name": "s", "dataset": {"name": "glyphs", "variants": 1, "limit": 40}, "search": {"epochs": 1}}
    arms = arms or {
        "plain": {"model": "resnet", "blocks": 1, "downsample": 1, "width": 4, "batch_size": 16},
        "started": SMALL,
    }
    content |= {"arms": arms, "baseline": baseline or {}, "confirm": {"design": "arms", "seeds": 1}}
    return build_study(content, "s.yaml")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A torch file of a ResNet-18 with another head, one of a ResNet-34, and a pickle that wants to run code."""
    from torchvision import models

    place = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for name in ("resnet18", "resnet34"):
        torch.save(getattr(models, name)(weights=None).state_dict(), place / f"{name}.pt")
    (place / "evil.pt").write_bytes(pickle.dumps(Evil(place / "owned")))
    return place


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def script(name, tmp_path, *arguments, **more):
    """A script of sweeps/ without any way to the network, as (code, stdout, stderr)."""
    nowhere = {key: "http://127.0.0.1:9" for key in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")}
    environment = os.environ | nowhere | {"TORCH_HOME": str(tmp_path / "torch"), "COLUMNS": "200", "RAY_TMPDIR": "/tmp"}
    environment |= {"PYTHONPATH": str(ROOT), **more}
    command = [sys.executable, str(ROOT / "sweeps" / name), *map(str, arguments), "--storage", str(tmp_path / "r")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_trials_that_asked_by_name_start_from_the_file(files, cache, tmp_path):
    asked, weights = initial_weights.given(study(), files / "resnet18.pt")
    assert asked.arm_config("started", seed=0).weights == f"file:{weights.digest}"
    assert asked.arm_config("plain", seed=0).weights == "none"
    kept_weights.keep(ResultsFolder.at(tmp_path), weights)
    rows = {row["arm"]: row for row in run_here(asked, tmp_path, cache)}
    assert {row["status"] for row in rows.values()} == {"complete"}
    assert rows["started"]["weights_hash"] == weights.digest and rows["plain"]["weights_hash"] is None
    assert rows["started"]["weights"] == f"file:{weights.digest}"
    assert kept_weights.kept(ResultsFolder.at(tmp_path), weights.digest).digest == weights.digest


def test_names_stay_in_levels_and_hypotheses_and_the_trials_start_from_the_file(files):
    content = {"name": "f", "dataset": {"name": "glyphs"}, "baseline": {"model": "resnet18", "weights": "none"}}
    content |= {"factors": {"weights": {"levels": ["none", "IMAGENET1K_V1"]}, "frozen": {"levels": [0, 5]}}}
    content |= {"hypotheses": ["weights IMAGENET1K_V1 > weights none"]}
    asked, weights = initial_weights.given(build_study(content, "f.yaml"), files / "resnet18.pt")
    mine = f"file:{weights.digest}"
    assert asked.space["weights"].levels == ("none", "IMAGENET1K_V1") and asked.declared[0].level == "IMAGENET1K_V1"
    assert asked.config({"weights": "IMAGENET1K_V1", "frozen": 0}, seed=0).weights == mine
    assert asked.config({"weights": "none", "frozen": 0}, seed=0).weights == "none"
    baseline = {"model": "resnet18", "weights": "IMAGENET1K_V1"}
    asked, _ = initial_weights.given(study(baseline=baseline, a={}, b={"frozen": 1}),
                           files / "resnet18.pt")  # fmt: skip
    assert {asked.arm_config(name, seed=0).weights for name in asked.arms} == {mine}


def test_a_file_from_which_nothing_starts_is_refused_with_what_to_say(files):
    plain = study(a={"model": "cnn"}, b={"model": "mlp"})
    with pytest.raises(BadRequest, match=r"nothing in s starts from weights by name.*weights: file:[0-9a-f]{32}"):
        initial_weights.given(plain, files / "resnet18.pt")


def test_our_own_networks_start_from_a_file_that_the_study_names(cache, tmp_path):
    dataset = prepare(study().dataset, cache)
    first = study(a={"model": "cnn", "width": 4}, b={"model": "cnn", "width": 8})
    network = build(first.arm_config("a", seed=0), dataset.shape, dataset.n_classes)
    stages = {key: value for key, value in network.state_dict().items() if key.startswith("stages.")}
    weights = Weights(stages, "cnn")
    (tmp_path / "cnn.safetensors").write_bytes(weights.pack())
    mine = {"model": "cnn", "width": 4, "weights": f"file:{weights.digest}"}
    asked, found = initial_weights.given(study(a=mine, b={"model": "cnn"}), tmp_path / "cnn.safetensors")
    initial_weights.check(asked, {data_key(asked.arm_config("a", seed=0)): dataset}, found, ResultsFolder.at(tmp_path))
    wider, _ = initial_weights.given(study(a=mine | {"width": 8}, b={}), tmp_path / "cnn.safetensors")
    with pytest.raises(BadData, match=r"arm a \(cnn\): .*of another shape: stages\.0"):
        initial_weights.check(
            wider, {data_key(wider.arm_config("a", seed=0)): dataset}, found, ResultsFolder.at(tmp_path)
        )


def test_weights_that_are_no_longer_in_the_folder_or_were_altered(files, cache, tmp_path):
    asked, weights = initial_weights.given(study(), files / "resnet18.pt")
    data = {data_key(asked.arm_config("started", seed=0)): prepare(asked.dataset, cache)}
    folder = ResultsFolder.at(tmp_path)
    with pytest.raises(BadData, match=r"weights: give the file with --weights"):
        initial_weights.check(asked, data, None, folder)
    kept_weights.keep(folder, weights)
    initial_weights.check(asked, data, None, folder)  # as a continued sweep does without the option
    other = Weights({key: value + 1 for key, value in weights.tensors.items()}, "other")
    folder.write(f"weights/{weights.digest}.safetensors", other.pack())
    with pytest.raises(BadData, match=f"altered: its content is {other.digest}"):
        initial_weights.check(asked, data, None, folder)
    kept_weights.keep(folder, weights)
    initial_weights.check(asked, data, None, folder)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("resnet34.pt", ["arm resnet18-finetuned (resnet18)", "resnet34.pt", "another network", "not known: layer1.2"]),
        ("evil.pt", ["evil.pt", "refused: this pickle"]),
        ("absent.pt", ["absent.pt", "cannot be read"]),
    ],
)
def test_a_file_that_cannot_be_taken_ends_before_anything_runs(
    files, tmp_path, cache, file, words, monkeypatch, capsys
):
    monkeypatch.setenv("RESNETLAB_CACHE", str(cache))
    app = runpy.run_path(str(ROOT / "sweeps/reproduce.py"))["app"]
    options = ["transfer-resnet18", "--set", "dataset.name=glyphs", "--set", "dataset.variants=1"]
    options += ["--storage", str(tmp_path / "r"), "--weights", str(files / file)]
    for more in ([], ["--dry-run"]):
        with pytest.raises(SystemExit) as left:
            app(options + more)
        said = capsys.readouterr()
        assert left.value.code == 3 and len(said.err.splitlines()) == 1, said.err
        assert all(word in said.err for word in words), said.err
        assert "starting Ray" not in said.out and not (tmp_path / "r").exists() and not (files / "owned").exists()


@pytest.mark.slow
def test_without_weights_and_network_an_arm_says_so_and_its_advice_works(tmp_path, cache, files):
    (tmp_path / "arms.yaml").write_text(STUDY)
    words = "--study", tmp_path / "arms.yaml", "--slots", "1"
    code, out, error = script("ablation.py", tmp_path, *words, RESNETLAB_CACHE=str(cache))
    assert code == 1 and "1 planned comparison could not be made" in error, error
    rows = {row["arm"]: row for row in pq.read_table(tmp_path / "r/arms/trials.parquet").to_pylist()}
    assert rows["plain"]["status"] == "complete" and rows["started"]["status"] == "failed"
    for word in ("weights IMAGENET1K_V1 of resnet18 are neither here nor", "resnet18-f37072fd.pth", "--weights"):
        assert word in rows["started"]["reason"]
    assert not list((tmp_path / "torch").rglob("*.pth*"))
    (advice,) = [line for line in out.splitlines() if "--weights FILE --retry-failed" in line and "next" not in line]
    assert (
        advice.strip().startswith("once that is mended: ")
        and "ablation.py" in advice
        and "cannot be estimated yet" not in out
    )
    plain = rows["plain"]
    options = *words, "--weights", files / "resnet18.pt", "--retry-failed"
    code, out, error = script("ablation.py", tmp_path, *options, RESNETLAB_CACHE=str(cache))  # as it advises
    assert code == 0, error
    rows = pq.read_table(tmp_path / "r/arms/trials.parquet").to_pylist()
    now = {row["arm"]: row for row in rows if row["status"] != "replaced"}
    assert now["plain"] == plain and now["started"]["status"] == "complete"
    assert len(rows) == 3 and {row["plan_hash"] for row in now.values()} == {plain["plan_hash"]}
    code, out, error = script("ablation.py", tmp_path, *words, RESNETLAB_CACHE=str(cache))
    assert code == 0 and "2 of 2 planned confirm runs" in out, error  # the folder knows which file it was


def test_every_arm_has_its_try_before_a_sweep_in_which_nothing_works_ends(cache, tmp_path, monkeypatch):
    """Five arms without weights come first; the sixth needs none."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda *_, **__: (_ for _ in ()).throw(OSError("no network"))
    )
    needy = {f"needy{i}": SMALL | {"lr": 0.01 * (i + 1)} for i in range(5)}
    rows = run_here(study(**needy, plain={"model": "mlp", "head_width": 8, "batch_size": 16}), tmp_path / "r", cache)
    assert [row["status"] for row in rows] == ["failed"] * 5 + ["complete"]
    with pytest.raises(TrialsFailed, match="first 5 trials failed, the last with: weights IMAGENET1K_V1"):
        run_here(study(**needy), tmp_path / "all", cache)


def offline(monkeypatch, tmp_path):
    def nothing(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", nothing)


def table(place):
    return read_table(ResultsFolder.at(place), "trials").to_pylist()


def go_on(content, place, cache, path=None, **how):
    """What `run_study` does with a study, without Ray; its rows."""
    folder = ResultsFolder.at(place)
    asked, weights = initial_weights.given(content, path)
    asked = initial_weights.resumed(asked, folder)
    check_identity(asked, folder)
    folder.write_json("study.json", asked.model_dump(mode="json"))
    kept_weights.keep(folder, weights)
    run_here(asked, place, cache, **how)
    return table(place)


def test_a_file_takes_the_place_of_a_name_from_which_nothing_has_trained(files, cache, tmp_path, monkeypatch):
    """The trials of other arms are as they were, in the same plan; who gives no file later goes on with this one."""
    offline(monkeypatch, tmp_path)
    place = tmp_path / "r"
    before = {row["arm"]: row for row in go_on(study(), place, cache)}
    assert (before["plain"]["status"], before["started"]["status"]) == ("complete", "failed")
    rows = go_on(study(), place, cache, files / "resnet18.pt")
    old = next(row for row in rows if row["trial_id"] == before["started"]["trial_id"])
    now = {row["arm"]: row for row in rows if row is not old}
    assert old["status"] == "replaced" and old["plan_hash"] is None and before["started"]["reason"] in old["reason"]
    assert now["plain"] == before["plain"] and now["started"]["status"] == "complete"
    assert now["started"]["seed"] == old["seed"] and now["started"]["weights"].startswith("file:")
    results = Results.open(place)
    assert len(results.trials) == 2 and len(results.confirm) == 2 and not failures(results)
    assert go_on(study(), place, cache) == rows


def test_explore_trials_in_whose_place_others_run_keep_their_number_and_values(files, cache, tmp_path, monkeypatch):
    offline(monkeypatch, tmp_path)
    content = {"name": "f", "dataset": {"name": "glyphs", "variants": 1, "limit": 40}, "confirm": {"seeds": 1}}
    content |= {"baseline": {"model": "resnet18", "batch_size": 16, "frozen": 5, "weights": "IMAGENET1K_V1"}}
    content |= {"factors": {"weights": {"levels": ["none", "IMAGENET1K_V1"]}, "lr": {"low": 0.01, "high": 0.1}}}
    content |= {"search": {"trials": 3, "epochs": 1, "audit": 0}}
    factors = build_study(content, "f.yaml")
    place = tmp_path / "r"
    before = go_on(factors, place, cache, until=3)
    lost = [row for row in before if row["status"] == "failed"]
    kept = [row for row in before if row["status"] == "complete"]
    assert len(lost) + len(kept) == 3 and lost
    rows = go_on(factors, place, cache, files / "resnet18.pt")
    old = [row for row in rows if row["status"] == "replaced"]
    assert {row["trial_id"] for row in old} == {row["trial_id"] for row in lost}
    now = {row["number"]: row for row in rows if row["phase"] == "explore" and row["status"] != "replaced"}
    assert len(now) == 3 and len({row["number"] for row in rows}) == len(rows)
    for row in lost:
        fresh = now[row["number"]]
        assert (fresh["lr"], fresh["weights"], fresh["seed"]) == (row["lr"], "IMAGENET1K_V1", row["seed"])
        assert fresh["status"] == "complete" and f"in place of trial {row['trial_id']} (failed" in fresh["reason"]
    assert all(row in rows for row in kept)
    again = go_on(factors, place, cache)
    assert again == rows


def test_a_file_with_other_weights_than_trials_have_started_from_is_refused(files, cache, tmp_path, monkeypatch):
    """The same weights are taken, and the trials keep the name and their ids."""
    hub = tmp_path / "hub"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    published = {"IMAGENET1K_V1": files / "resnet18.pt"}
    monkeypatch.setattr(transfer, "named", lambda model, name: read(published[name]))
    place = tmp_path / "r"
    go_on(study(), place, cache, until=1)
    before = go_on(study(), place, cache, until=1)
    assert {row["status"] for row in before} == {"complete"}
    other = tmp_path / "other.pt"
    tensors = {key: value + 1 for key, value in read(files / "resnet18.pt").tensors.items()}
    torch.save(tensors, other)
    with pytest.raises(FolderRefused, match=r"1 trial started from weights IMAGENET1K_V1 with content .*--weights has"):
        go_on(study(), place, cache, other)
    assert go_on(study(), place, cache, files / "resnet18.pt") == before
    (name,) = initial_weights.contents(ResultsFolder.at(place), table(place))
    assert name == "resnet18 IMAGENET1K_V1"
