"""Reruns: trials of a real small sweep (no Ray), rerun, altered and exported; and the exported network."""

import io
import json
import os
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from resnetlab.analysis.results import Results
from resnetlab.cli.trial import judge
from resnetlab.driver import rerun as again_module
from resnetlab.driver.rerun import Place, find, rerun
from resnetlab.errors import BadData, BadRequest
from resnetlab.experiment.messages import Ending, Report, TrialContext
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store
from resnetlab.study import build_study
from resnetlab.study.trial_config import TrialConfig
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import data_key
from resnetlab.vision.data import prepare
from resnetlab.vision.training.export import FILES, load
from resnetlab.vision.trial_run import TrialRun

ROOT = Path(__file__).resolve().parents[1]
STUDY = {
    "name": "again",
    "dataset": {"name": "glyphs", "variants": 1, "limit": 300},
    "baseline": {"blocks": 1, "width": 4, "downsample": 1, "batch_size": 64, "lr": 0.1, "crop": 1},
}
FACTORS = {
    "factors": {"kernel": {"levels": [1, 3]}, "lr": {"low": 0.05, "high": 0.2}},
    "search": {"trials": 4, "epochs": 3, "reduction_factor": 2},
    "confirm": {"seeds": 2},
}
ARMS = {
    "arms": {"source": {"data": {"label": "font"}}, "target": {"source": "source", "frozen": 1}},
    "search": {"epochs": 1},
    "confirm": {"design": "arms", "seeds": 1},
}


def swept(place: Path, cache: Path, **content) -> ResultsFolder:
    """A study run to its end in this process, one trial after the other, by the real sweep and worker."""
    study = build_study(STUDY | content, "again")
    folder = ResultsFolder.at(place)
    store = Store(folder, study.columns)
    configs = [study.arm_config(name, seed=0) for name in study.arms] or [study.baseline_config(seed=0)]
    datasets = {data_key(config): prepare(config.data, cache) for config in configs}
    facts = {"git_revision": "0000", "versions": json.dumps(again_module.versions())}
    sweep = Sweep(study, store, facts, {key: (found.hash, found.classes) for key, found in datasets.items()})
    while (task := sweep.next()) is not None:
        context = TrialContext(folder.url, cache, cpus=1.0, gpus=0.0, epoch_timeout_s=600)
        try:
            run = TrialRun(task, context)
            while sweep.report(task.trial_id, run.step()):
                pass
        except Exception as error:
            sweep.report(task.trial_id, Report(ending=Ending.of(error)))
    assert sweep.finished and sweep.error is None
    store.close()
    folder.write("study.json", study.model_dump_json().encode())
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, cache) -> ResultsFolder:
    return swept(tmp_path_factory.mktemp("results") / "again", cache, **FACTORS)


def trials(folder: ResultsFolder) -> list[dict]:
    return pq.read_table(folder.path / "trials.parquet").to_pylist()


def script(folder: ResultsFolder, cache: Path, *words: str) -> tuple[int, str, str]:
    """The script in this process: exit code, stdout, stderr."""
    app = runpy.run_path(str(ROOT / "sweeps" / "trial.py"))["app"]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("RESNETLAB_CACHE", str(cache))
        with pytest.raises(SystemExit) as left:
            app([folder.url, *words])
    return left.value.code, out.getvalue(), err.getvalue()


def copied(folder: ResultsFolder, to: Path, **changes) -> ResultsFolder:
    """The tables with `changes` to them: table name to a function of its rows."""
    to.mkdir(exist_ok=True)
    for file in folder.path.glob("*.*"):
        (to / file.name).write_bytes(file.read_bytes())
    for name, change in changes.items():
        table = pq.read_table(to / f"{name}.parquet")
        rows = [change(row) for row in table.to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, table.schema), to / f"{name}.parquet")
    return ResultsFolder.at(to)


def test_every_trial_comes_out_to_the_last_bit(folder, cache):
    rows = trials(folder)
    assert {row["status"] for row in rows} == {"complete", "stopped"}
    for row in rows:
        said = []
        found = rerun(folder, row, Place(cache=cache), said.append)
        assert found.identical, (row["number"], found.differences)
        assert found.compared == row["epochs_run"] == found.training.epoch
        assert found.metric.name == ("test_accuracy" if row["phase"] == "confirm" else "val_accuracy")
        assert found.changed == [] or all(text.startswith("code ") for text in found.changed)
        assert sum(line.startswith("epoch ") for line in said) == row["epochs_run"]


def test_a_trial_is_found_by_number_id_or_its_beginning(folder):
    rows = trials(folder)
    for row in rows:
        for wanted in (str(row["number"]), f"#{row['number']}", row["trial_id"], row["trial_id"][:8]):
            assert find(folder, wanted)["trial_id"] == row["trial_id"]
    for wanted in ("99", "zzzz", "", rows[0]["trial_id"] + "0"):
        with pytest.raises(BadRequest, match=r"no such trial.*a trial_id.*or a number"):
            find(folder, wanted)
    with pytest.raises(BadRequest, match=r"has no trials"):
        find(ResultsFolder.at(folder.path / "nowhere"), "1")


def test_a_beginning_that_several_trials_share_is_refused_with_their_ids(folder, tmp_path):
    place = copied(folder, tmp_path, trials=lambda row: row | {"trial_id": f"abcd{row['trial_id'][4:]}"})
    with pytest.raises(
        BadRequest, match=rf"abcd: ambiguous, it matches {len(trials(folder))} trials \(candidates: abcd"
    ):
        find(place, "abcd")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_option_is_refused_and_a_trial_that_had_one_runs_on_the_cpu(folder, cache, tmp_path):
    code, said, error = script(folder, cache, "0", "--device", "cuda")
    assert code == 2 and "--device cuda: torch sees no such GPU here (allowed: cpu)" in error and "epoch 1" not in said
    place = copied(folder, tmp_path, trials=lambda row: row | {"device": "NVIDIA H100"})
    code, said, error = script(place, cache, "0", "--json")
    assert "no GPU here: run on the CPU (the trial ran on NVIDIA H100)" in error
    assert "on NVIDIA H100 then, on cpu now" in json.loads(said)["changed"]


def test_within_the_seed_noise_and_beyond_it_are_told_apart(folder, cache, tmp_path, monkeypatch):
    row = next(row for row in trials(folder) if row["phase"] == "confirm")

    def off(points: float):
        def change(other):
            if other["trial_id"] != row["trial_id"] or other.get("test_accuracy") is None:
                return other
            return other | {"test_accuracy": other["test_accuracy"] + points / 100, "versions": '{"torch": "1.0"}'}

        return change

    monkeypatch.setenv("RESNETLAB_CACHE", str(cache))
    for points, word, agrees in ((0.01, "within", True), (60.0, "beyond", False)):
        place = copied(folder, tmp_path / word, trials=off(points))
        found = rerun(place, find(place, row["trial_id"]), Place(cache=cache), lambda line: None)
        assert not found.identical and "torch 1.0 then" in found.changed[0]
        text, ends_well = judge(place.url, found)
        assert f"{word} the measured seed noise" in text and ends_well is agrees, text
        assert "test_accuracy: " in text and "2 runs of 1 arm)" in text


def test_on_a_cpu_with_nothing_changed_a_small_difference_is_no_seed_noise(folder, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(again_module, "git_revision", lambda: "0000")
    place = copied(folder, tmp_path, epochs=lambda e: e | {"val_loss": e["val_loss"] + 1e-12})
    row = next(row for row in trials(place) if row["phase"] == "confirm")
    found = rerun(place, row, Place(cache=cache), lambda line: None)
    text, agrees = judge(place.url, found)
    assert found.changed == [] and not agrees and "so a CPU should give identical results" in text
    row |= {"host": "elsewhere"}  # another machine may have other instructions
    found = rerun(place, row, Place(cache=cache), lambda line: None)
    text, agrees = judge(place.url, found)
    assert agrees and "on elsewhere then" in text and "within the measured seed noise" in text


def test_a_script_is_told_in_json(folder, cache, tmp_path):
    row = next(row for row in trials(folder) if row["phase"] == "confirm")
    code, said, people = script(folder, cache, row["trial_id"], "--json")
    told = json.loads(said)
    assert code == 0 and "identical: every recorded number" in people
    assert (told["trial_id"], told["identical"], told["agrees"], told["differences"]) == (
        row["trial_id"],
        True,
        True,
        [],
    )
    assert told["metric"] == "test_accuracy" and told["recorded"] == told["measured"] == row["test_accuracy"]


def test_an_epoch_that_was_altered_is_named(folder, cache, tmp_path):
    row = next(row for row in trials(folder) if row["status"] == "complete")
    place = copied(folder, tmp_path, epochs=lambda e: e | {"val_loss": e["val_loss"] + 1e-12 * (e["epoch"] == 2)})
    found = rerun(place, find(place, row["trial_id"]), Place(cache=cache), lambda line: None)
    assert [text.split(":")[0] for text in found.differences] == ["epoch 2, val_loss"]


def test_a_diverged_trial_diverges_again(cache, tmp_path):
    content = FACTORS | {"confirm": {"design": "none"}, "search": {"trials": 1, "epochs": 2}}
    baseline = STUDY["baseline"] | {"lr": 100.0, "momentum": 0.99, "weight_decay": 10.0}
    folder = swept(tmp_path, cache, **content | {"baseline": baseline, "factors": {"kernel": {"levels": [1, 3]}}})
    (row,) = trials(folder)
    assert row["status"] == "diverged"
    assert rerun(folder, row, Place(cache=cache), lambda line: None).ending


def test_other_data_and_missing_data_are_refused(folder, cache, tmp_path):
    row = trials(folder)[0]
    with pytest.raises(BadData, match=r"the trial's was 1234; give that with --data"):
        rerun(folder, row | {"data_hash": "1234"}, Place(cache=cache), lambda line: None)
    config = TrialConfig.model_validate_json(row["config"])
    lost = config.model_copy(update={"data": config.data.model_copy(update={"name": "cifar10", "variants": 24})})
    with pytest.raises((BadData, BadRequest), match="--data"):
        rerun(folder, row | {"config": lost.model_dump_json()}, Place(cache=tmp_path), lambda line: None)


def test_a_trial_whose_sources_weights_are_gone_runs_the_source_first(cache, tmp_path):
    folder = swept(tmp_path / "arms", cache, **ARMS)
    target = next(row for row in trials(folder) if row["arm"] == "target")
    assert rerun(folder, target, Place(cache=cache), lambda line: None).identical
    (kept,) = (folder.path / "weights").iterdir()
    kept.unlink()
    said = []
    assert rerun(folder, target, Place(cache=cache), said.append).identical
    assert any("run again first" in line for line in said) and any("is as recorded; now" in line for line in said)
    alone = copied(folder, tmp_path / "alone", trials=lambda row: row)
    rows = [row for row in trials(folder) if row["arm"] == "target"]
    table = pq.read_table(alone.path / "trials.parquet")
    pq.write_table(pa.Table.from_pylist(rows, table.schema), alone.path / "trials.parquet")
    with pytest.raises(BadRequest, match=r"put its weights at .*weights/"):
        rerun(alone, target, Place(cache=cache), lambda line: None)


@pytest.fixture(scope="module")
def exported(folder, cache, tmp_path_factory) -> tuple[dict, Path, str]:
    """A confirm trial's row, the folder that it was exported to by the script, and what the script said."""
    row = next(row for row in trials(folder) if row["phase"] == "confirm")
    place = tmp_path_factory.mktemp("exported") / "model"
    code, said, error = script(folder, cache, str(row["number"]), "--export", str(place))
    assert code == 0, error
    return row, place, said


def test_the_script_exports_a_network_that_torch_alone_runs(exported):
    _, place, said = exported
    assert "identical: every recorded number of 3 epochs and every test prediction" in said
    assert {file.name for file in place.iterdir()} == set(FILES)
    example = (place / "example.py").read_text().split('"""')[2].strip()
    assert len(example.splitlines()) == 5 and "resnetlab" not in example
    environment = os.environ | {"PYTHONPATH": ""}
    shown = subprocess.run([sys.executable, "example.py"], cwd=place, capture_output=True, text=True, env=environment)
    assert shown.returncode == 0 and len(json.loads(shown.stdout.replace("'", '"'))) == 8, shown.stderr


def test_both_forms_of_an_export_say_what_was_recorded_image_by_image(folder, cache, exported):
    row, place, _ = exported
    network, about = load(place)
    program = torch.export.load(str(place / "model.pt2")).module()
    assert about["trial_id"] == row["trial_id"] and about["test_accuracy"] == row["test_accuracy"]
    config = TrialConfig.model_validate_json(row["config"])
    dataset = prepare(config.data, cache)
    rows = Results.open(folder.url).predictions.query("trial_id == @row['trial_id']")
    images = torch.from_numpy(np.array(dataset.images[rows["image"].to_numpy()]))
    for run in (network, program):
        with torch.no_grad():
            assert (run(images).argmax(1).numpy() == rows["predicted"].to_numpy()).all()
            assert run(images[:1]).shape == (1, len(about["classes"]))
    (place / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(BadData, match="not an exported trial, or damaged"):
        load(place)


def test_the_script_names_what_is_wrong(folder, cache, tmp_path):
    code, _, error = script(folder, cache, "99")
    assert code == 2 and "no such trial" in error and error.count("\n") == 1
    (tmp_path / "file").write_text("")
    code, said, error = script(folder, cache, "0", "--export", str(tmp_path / "file" / "x"))
    assert code == 2 and "--export" in error and "a part of it is a file" in error
    assert "epoch 1" not in said  # known before anything is trained


def test_a_trial_that_does_not_come_out_ends_with_code_1(folder, cache, tmp_path):
    place = copied(folder, tmp_path, trials=lambda row: row | {"test_accuracy": row["test_accuracy"] and 0.999})
    row = next(row for row in trials(folder) if row["phase"] == "confirm")
    code, said, error = script(place, cache, row["trial_id"])
    assert code == 1 and "was not reproduced" in error and "beyond the measured seed noise" in said
