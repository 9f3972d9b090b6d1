"""Trackers, each with its real package: given made tables after a sweep, during it, and again."""

import json
import subprocess
import sys
from datetime import UTC
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from made_results import default_study, make_results
from optuna.trial import TrialState
from sweeps_here import run_here

from resnetlab.analysis.results import Results
from resnetlab.cli.export import main as export_command
from resnetlab.commands import command, short
from resnetlab.errors import BadRequest, FolderRefused
from resnetlab.experiment import own
from resnetlab.search.optuna_export import write
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table
from resnetlab.tracking import chosen
from resnetlab.tracking.feed import Feed, live

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    """Sixteen trials: of the search, and of a plan that compares two factors."""
    place = tmp_path_factory.mktemp("results") / "made"
    factors = {name: default_study().model_dump(mode="json")["factors"][name] for name in ("kernel", "optimizer", "lr")}
    search = {"trials": 12, "epochs": 4, "grace_period": 1, "reduction_factor": 2, "audit": 0.15}
    make_results(place, default_study(factors=factors, search=search, confirm={"seeds": 2}), test_images=100)
    return Results.open(place)


def fed(folder: ResultsFolder, *trackers) -> Feed:
    feed = Feed(folder, trackers)
    feed.catch_up()
    feed.close()
    assert feed.problems == {}
    return feed


def rows(results: Results, table: str) -> list[dict]:
    return read_table(results.folder, table).to_pylist()


# -- Optuna ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["study.db", "study.log"])
def test_the_search_is_an_optuna_study_that_the_dashboard_serves(results, tmp_path, name):
    where = str(tmp_path / name)
    explored = [row for row in rows(results, "trials") if row["phase"] in ("explore", "audit")]
    for _ in range(2):  # the second replaces the first
        assert write(results.study, results.folder, where) == len(explored)
    url = f"sqlite:///{where}" if name.endswith(".db") else None
    storage = url or optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(where))
    study = optuna.load_study(study_name="made", storage=storage)
    states = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
    values = {}
    for row in rows(results, "epochs"):
        values.setdefault(row["trial_id"], {})[row["epoch"]] = row["val_accuracy"]
    assert {"complete", "stopped", "diverged"} == {row["status"] for row in explored}
    for row, trial in zip(explored, study.trials, strict=True):
        assert trial.state == states.get(row["status"], TrialState.FAIL) and trial.number == row["number"]
        assert trial.user_attrs["trial_id"] == row["trial_id"]
        assert trial.intermediate_values == values.get(row["trial_id"], {})
        assert {name.partition("@")[0]: value for name, value in trial.params.items()} == {
            name: row[name] for name in results.study.space.names if row[name] is not None
        }
        assert trial.datetime_start.astimezone(UTC) == row["started"]
    assert study.best_value == max(row["val_accuracy"] for row in explored if row["status"] == "complete")
    assert served(storage, "made") == len(explored)


def served(storage, name: str) -> int:
    """How many trials optuna-dashboard serves of the study."""
    from optuna_dashboard import wsgi

    app = wsgi(storage)

    def get(path: str) -> dict:
        said = []
        environ = {"PATH_INFO": path}
        setup_testing_defaults(environ)
        body = b"".join(app(environ, lambda status, headers, failed=None: said.append((status, failed))))
        assert said[0][0].startswith("200"), (path, said, body)
        return json.loads(body)

    (study,) = [study for study in get("/api/studies")["study_summaries"] if study["study_name"] == name]
    return len(get(f"/api/studies/{study['study_id']}")["trials"])


def test_a_study_of_someone_elses_is_left_alone(results, tmp_path):
    where = tmp_path / "mine.db"
    optuna.create_study(storage=f"sqlite:///{where}", study_name="made")
    for place, why in (
        (str(where), "another study made"),
        (str(tmp_path / "x.csv"), r"\.db"),
        ("/nowhere/x.db", "no such"),
    ):
        with pytest.raises(BadRequest, match=why):
            write(results.study, results.folder, place)


def test_an_export_to_nothing_is_refused(results, capsys):
    with pytest.raises(SystemExit) as ended:
        export_command(results.folder.place)
    assert (
        ended.value.code == 2 and "--archive, --optuna, --tensorboard, --mlflow or --wandb" in capsys.readouterr().err
    )


def test_two_objectives(tmp_path):
    study = default_study(search={"trials": 12, "epochs": 3, "second_objective": "parameters", "stopping": False})
    make_results(tmp_path / "two", study, confirm=False)
    results = Results.open(tmp_path / "two")
    write(results.study, results.folder, str(tmp_path / "two.db"))
    held = optuna.load_study(study_name="made", storage=f"sqlite:///{tmp_path / 'two.db'}")
    complete = [row for row in rows(results, "trials") if row["status"] == "complete"]
    found = [trial.values for trial in held.trials if trial.state == TrialState.COMPLETE]
    assert found == [[row["val_accuracy"], float(row["parameters"])] for row in complete]


# -- TensorBoard -----------------------------------------------------------------------------------------------------


def scalars(place: Path) -> dict[str, list[tuple[int, float, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(place))
    found.Reload()
    return {tag: [(e.step, e.value, e.wall_time) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_tensorboard_reads_the_curves_and_the_hparams(results, tmp_path):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import plugin_data_pb2

    for _ in range(2):  # written anew, not twice
        fed(results.folder, *chosen("made", tensorboard=tmp_path, mlflow=None, wandb=None))
    trials = rows(results, "trials")
    places = sorted(tmp_path.iterdir())
    assert [place.name.split("-")[1] for place in places] == [row["trial_id"] for row in trials]
    row = next(row for row in trials if row["phase"] == "confirm" and row["status"] == "complete")
    curve = [e for e in rows(results, "epochs") if e["trial_id"] == row["trial_id"]]
    found = scalars(places[row["number"]])
    assert [(step, pytest.approx(value)) for step, value, _ in found["val_accuracy"]] == [
        (e["epoch"], e["val_accuracy"]) for e in curve
    ]
    assert {"train_loss", "lr", "images_per_second"} < set(found)
    assert found["test_accuracy"][0][:2] == (row["epochs_run"], pytest.approx(row["test_accuracy"]))
    spent = sum(e["train_seconds"] + e["eval_seconds"] for e in curve)
    assert found["val_accuracy"][-1][2] == pytest.approx(row["started"].timestamp() + spent)

    held = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    held.Reload()
    tags = held.PluginRunToTagToContent("hparams")
    assert len(tags) == len(trials)
    start = plugin_data_pb2.HParamsPluginData.FromString(
        tags[places[row["number"]].name]["_hparams_/session_start_info"]
    )
    told = {name: getattr(v, v.WhichOneof("kind")) for name, v in start.session_start_info.hparams.items()}
    assert told["kernel"] == row["kernel"] and told["optimizer"] == row["optimizer"] and told["arm"] == row["arm"]
    assert told["phase"] == "confirm" and told["lr"] == pytest.approx(row["lr"])


# -- MLflow ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    """A local store whose tables are made once; each test has an experiment of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def runs(uri: str, study: str, number: str = "val_accuracy") -> dict:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name(study).experiment_id], max_results=1000)
    assert len({run.data.tags["resnetlab.trial_id"] for run in found}) == len(found)
    history = client.get_metric_history
    return {
        run.data.tags["resnetlab.trial_id"]: (
            run,
            [(m.step, m.value) for m in history(run.info.run_id, number)],
        )
        for run in found
    }


def test_mlflow_has_a_run_for_each_trial(results, uri):
    for _ in range(2):  # what is there is not sent again
        fed(results.folder, *chosen("made", tensorboard=None, mlflow=uri, wandb=None))
    found, trials = runs(uri, "made"), rows(results, "trials")
    assert len(found) == len(trials)
    states = {"complete": "FINISHED", "stopped": "KILLED"}
    curves = {}
    for e in rows(results, "epochs"):
        curves.setdefault(e["trial_id"], []).append((e["epoch"], e["val_accuracy"]))
    for row in trials:
        run, curve = found[row["trial_id"]]
        assert run.info.status == states.get(row["status"], "FAILED")
        assert curve == curves.get(row["trial_id"], [])
        assert run.data.params["kernel"] == str(row["kernel"]) and run.data.params["data.name"] == "glyphs"
        assert run.data.tags["resnetlab.phase"] == row["phase"]
        assert run.data.metrics.get("test_accuracy") == row["test_accuracy"]
        assert run.info.start_time == int(1000 * row["started"].timestamp())


def test_a_feed_that_comes_back_goes_on_where_the_tool_was(results, uri, tmp_path, monkeypatch):
    """A sweep that is still running: half of its epochs, then the rest from another process's feed."""
    from resnetlab.tracking import feed as module

    def half(folder, table):
        found = read_table(folder, table)
        if table == "epochs":
            return found.filter([epoch <= 2 for epoch in found["epoch"].to_pylist()])
        done = [row | {"status": "running", "ended": None, "test_accuracy": None} for row in found.to_pylist()]
        return type(found).from_pylist(done, found.schema)

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_table", half)
        feed = Feed(results.folder, chosen("again", tensorboard=tmp_path, mlflow=uri, wandb=None))
        for _ in range(2):
            feed.catch_up()
    assert feed.held() == {"tensorboard": 0, "mlflow": 0}
    assert {run.info.status for run, _ in runs(uri, "again").values()} == {"RUNNING"}
    assert max(step for _, curve in runs(uri, "again").values() for step, _ in curve) == 2
    feed.catch_up()  # the sweep has ended meanwhile
    whole = fed(results.folder, *chosen("again", tensorboard=tmp_path, mlflow=uri, wandb=None))
    number = len(results.trials)
    assert feed.held() == whole.held() == {"tensorboard": number, "mlflow": number} and feed.problems == {}
    for trial_id, (_, curve) in runs(uri, "again").items():
        steps = [e["epoch"] for e in rows(results, "epochs") if e["trial_id"] == trial_id]
        assert [step for step, _ in curve] == steps


@pytest.mark.parametrize("swept", ["results", "of_a_task"])
def test_weights_and_biases_takes_the_runs_offline(swept, request, tmp_path, monkeypatch):
    results = request.getfixturevalue(swept)
    wandb = pytest.importorskip("wandb")
    request.addfinalizer(wandb.teardown)  # which has read where its files lie
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    few = results.folder.sub("few")
    for name in ("trials", "epochs"):
        table = read_table(results.folder, name)
        keep = rows(results, "trials")[-1]["trial_id"]
        from resnetlab.storage.store import write_table

        write_table(few, name, table.filter([found == keep for found in table["trial_id"].to_pylist()]))
    fed(few, *chosen("made", tensorboard=None, mlflow=None, wandb="p"))
    (place,) = (tmp_path / "wandb").glob("offline-run-*")
    assert place.name.endswith(keep) and list(place.glob("*.wandb"))


# -- a task of one's own --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_a_task(tmp_path_factory) -> Results:
    """Eight trials of a task whose error is to be low."""
    place = tmp_path_factory.mktemp("task")
    changes = {"search.trials": 4, "search.epochs": 4, "search.grace_period": 1, "confirm.seeds": 2}
    study = own.load(ROOT / "tests/own_code/own-task.yaml", changes | {"confirm.design": "one-factor"})
    ResultsFolder.at(place / "results").write_json("study.json", study.recorded())
    run_here(study, place / "results", place / "cache")
    return Results.open(place / "results")


def test_each_tool_has_the_trials_of_a_task_with_its_settings_and_numbers(of_a_task, uri, tmp_path):
    trials, curves = rows(of_a_task, "trials"), {}
    for e in rows(of_a_task, "epochs"):
        curves.setdefault(e["trial_id"], []).append((e["epoch"], e["val_rmse"]))
    (confirmed, *_) = [row for row in trials if row["phase"] == "confirm"]

    fed(of_a_task.folder, *chosen("task", tensorboard=tmp_path / "boards", mlflow=uri, wandb=None))
    places = sorted((tmp_path / "boards").iterdir())
    found = scalars(places[confirmed["number"]])
    curve = [(step, value) for step, value, _ in found["val_rmse"]]
    assert curve == [(step, pytest.approx(value)) for step, value in curves[confirmed["trial_id"]]]
    assert found["test_rmse"][0][1] == pytest.approx(confirmed["test_rmse"]) and "val_accuracy" not in found

    sent = runs(uri, "task", "val_rmse")
    assert {trial_id: steps for trial_id, (_, steps) in sent.items()} == curves
    run, _ = sent[confirmed["trial_id"]]
    assert run.data.metrics["test_rmse"] == confirmed["test_rmse"] and "test_accuracy" not in run.data.metrics
    assert run.data.params["layers"] == str(confirmed["layers"]) and "data.name" not in run.data.params

    explored = [row for row in trials if row["phase"] != "confirm"]
    assert write(of_a_task.study, of_a_task.folder, str(tmp_path / "study.db")) == len(explored)
    held = optuna.load_study(study_name=of_a_task.study.name, storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert held.direction == optuna.study.StudyDirection.MINIMIZE
    assert held.best_value == min(row["val_rmse"] for row in explored if row["status"] == "complete")


# -- all of them -----------------------------------------------------------------------------------------------------


class Broken:
    name = "broken"

    def known(self):
        return {}

    def epochs(self, trial, rows, first):
        raise ConnectionError("the server is gone\nwith a long story")


def test_a_tool_that_fails_takes_nobody_with_it(results, tmp_path):
    said = []
    trackers = [Broken(), *chosen("made", tensorboard=tmp_path, mlflow=None, wandb=None)]
    with live(results.folder, trackers, said.append, {"broken": "a b", "wandb": None}):
        pass
    assert len(list(tmp_path.iterdir())) == len(results.trials)
    assert said == [
        "broken: the server is gone; send what is missing with: "
        + command("export", short(results.folder.place), "--broken=a b")
    ]


def test_a_folder_that_is_refused_is_not_sent(results, tmp_path):
    with pytest.raises(FolderRefused), live(results.folder, chosen("made", tmp_path, None, None), print, {}):
        raise FolderRefused("of another study")
    assert not list(tmp_path.iterdir())


def test_no_tool_is_imported_before_it_is_asked_for(results, tmp_path):
    code = (
        "import runpy, sys\n"
        "for name in ('export', 'ablation', 'status'):\n"
        "    app = runpy.run_path(f'{sys.argv[1]}/sweeps/{name}.py')['app']\n"
        "sys.argv = ['status', sys.argv[2]]\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code, end\n"
        "loaded = {'mlflow', 'tensorboard', 'tensorboardX', 'wandb', 'optuna', 'torch', 'ray'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), results.folder.url], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert "made: finished" in done.stdout


@pytest.mark.parametrize("option", ["mlflow", "tensorboard", "wandb"])
def test_a_tool_that_is_not_installed_is_named(option, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, {"tensorboard": "tensorboardX"}.get(option, option), None)
    asked = dict.fromkeys(["tensorboard", "mlflow", "wandb"]) | {option: tmp_path}
    with pytest.raises(BadRequest, match=rf"--{option}: needs .*pip install"):
        chosen("made", **asked)


def test_a_store_that_cannot_be_used_is_named(tmp_path, monkeypatch):
    with pytest.raises(BadRequest, match=r"--mlflow gopher://x: "):
        chosen("made", tensorboard=None, mlflow="gopher://x", wandb=None)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRequest, match=r"--tensorboard.*a part of it is a file"):
        chosen("made", tensorboard=tmp_path / "file" / "x", mlflow=None, wandb=None)
