"""The Python interface: what `import resnetlab` exports and loads, and a whole sweep in a notebook."""

import doctest
import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch
from made_results import make_results
from nbclient import NotebookClient

import resnetlab
from resnetlab.errors import BadRequest, FolderRefused
from resnetlab.ray_backend import watchdog

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "name": "tiny",
    "dataset": {"name": "digits", "limit": 200},
    "baseline": {"blocks": 1, "width": 4, "downsample": 1, "batch_size": 32},
    "arms": {"a": {}, "b": {"kernel": 1}},
    "search": {"epochs": 1},
    "confirm": {"design": "arms", "seeds": 2},
}


def loaded(code: str) -> str:
    """Which of the heavy packages `code` leaves loaded in a fresh process."""
    heavy = "torch torchvision ray optuna pandas pyarrow numpy scipy sklearn matplotlib pydantic typer rich yaml"
    code = f"import sys\n{code}\nprint(*sorted(set('{heavy}'.split()) & set(sys.modules)))"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_resnetlab_loads_no_package():
    assert loaded("import resnetlab") == ""


def test_a_study_is_loaded_without_torch_ray_and_pandas():
    assert loaded("import resnetlab; resnetlab.Study.load('default')") == "numpy pydantic yaml"


def test_results_are_read_without_torch_and_ray():
    code = "import resnetlab; resnetlab.load('results/reference/default').effects"
    assert not {"torch", "torchvision", "ray", "typer"} & set(loaded(code).split())


@pytest.mark.parametrize("name", ["trials", "epochs", "effects", "report", "load", "Results", "Study.load"])
def test_the_example_of_each_name_can_be_run(name, tmp_path, monkeypatch, capsys):
    """On the recorded run of the default study."""
    home = getattr(resnetlab.Results, name, None) or functools.reduce(getattr, name.split("."), resnetlab)
    examples = doctest.DocTestParser().get_examples(home.__doc__)
    assert examples, f"{name} has no example"
    shutil.copytree(ROOT / "results/reference/default", tmp_path / "results/default")
    monkeypatch.chdir(tmp_path)
    names = {"resnetlab": resnetlab}
    for example in examples:
        exec(compile(example.source, name, "single"), names)
    shown = capsys.readouterr().out
    assert (shown or name == "Study.load") and "Empty DataFrame" not in shown, shown


@pytest.mark.long
@pytest.mark.slow
def test_the_example_of_run_can_be_run(tmp_path):
    lines = [example.source for example in doctest.DocTestParser().get_examples(resnetlab.run.__doc__)]
    code = "".join(["import resnetlab\n", *lines[:-1], f"print({lines[-1].strip()})\n"])
    env = os.environ | {"PYTHONPATH": str(ROOT), "RESNETLAB_CACHE": str(tmp_path / "cache"), "RAY_TMPDIR": "/tmp"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "Empty DataFrame" not in done.stdout, done.stderr
    assert len(resnetlab.load(tmp_path / "results/default").effects)


def test_the_package_lists_its_names():
    assert {"Results", "Study", "errors", "load", "run", "__version__"} <= set(dir(resnetlab))
    assert all(getattr(resnetlab, name) is not None for name in resnetlab.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = resnetlab.nothing


def test_changes_of_a_section_keep_its_other_keys():
    default = resnetlab.Study.load("default")
    changed = resnetlab.Study.load("default", name="x", search={"trials": 4}, factors={"lr": {"levels": [0.1, 0.2]}})
    assert (changed.name, changed.search.trials, changed.search.epochs) == ("x", 4, default.search.epochs)
    assert changed.factors == default.factors | {"lr": {"levels": [0.1, 0.2]}}


def test_a_study_comes_from_a_file_and_from_a_mapping(tmp_path):
    content = {name: value for name, value in TINY.items() if name != "name"}
    (tmp_path / "tiny.yaml").write_text(str(content))
    assert resnetlab.Study.load(tmp_path / "tiny.yaml") == resnetlab.Study.load(TINY)
    resnetlab.Study.load(TINY, confirm={"seeds": 5})
    assert TINY["confirm"] == {"design": "arms", "seeds": 2}


NET = (ROOT / "tests/own_code/my_net.py").read_text()
OWN = {
    "name": "own",
    "dataset": {"name": "digits", "limit": 200},
    "model": "my_net.py:net",
    "baseline": {"depth": 1, "width": 8, "batch_size": 32},
    "factors": {"norm": {"levels": ["batch", "group"]}},
    "search": {"trials": 1, "epochs": 1},
    "confirm": {"seeds": 2},
}


def imported(file, monkeypatch, name):
    """The module in a file, as a script imports it."""
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_own_code_is_found_from_a_file_a_mapping_and_a_function(tmp_path, monkeypatch):
    (tmp_path / "api_net.py").write_text(NET)
    named = OWN | {"model": "api_net.py:net"}
    (tmp_path / "own.yaml").write_text(json.dumps(named))
    file = resnetlab.Study.load(tmp_path / "own.yaml")
    monkeypatch.chdir(tmp_path)
    net = imported(tmp_path / "api_net.py", monkeypatch, "api_net").net
    for study in (resnetlab.Study.load(named), resnetlab.Study.load(OWN, model=net)):
        assert study == file and study.code == file.code == {"study/api_net.py": NET}
    both = {"norm": {"levels": ["batch", "group"], "when": {"model": net}}, "model": {"levels": ["cnn", net]}}
    study = resnetlab.Study.load(OWN | {"model": "cnn"}, factors=both)
    assert study.config({"model": "api_net.py:net"}, seed=0).depth == 1 and study.code == file.code


def test_two_files_of_one_name_in_one_study_are_refused(tmp_path, monkeypatch):
    nets = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(NET)
        nets.append(imported(tmp_path / folder / "net.py", monkeypatch, f"{folder}_net").net)
    with pytest.raises(BadRequest, match=r"model: net\.py:net: is the name of two different parts"):
        resnetlab.Study.load(OWN, model=nets[0], factors={"model": {"levels": nets}})


def here(shape, classes):
    """As if it were defined in a notebook."""


here.__module__, here.__qualname__ = "__main__", "here"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda shape, classes: None, "model: a lambda cannot be found by workers (allowed: a function in a file"),
        (here, "model: here is defined in this notebook or script, where workers cannot find it"),
        (here, "`%%writefile file.py` above a notebook's cell makes such a file"),
        (functools.partial(here, 3), "is defined in no file"),
        (torch.nn.Linear(2, 2), "model: is a Linear itself (allowed: what makes one, as a function in a file"),
        (functools, "model: functools is a module (allowed: a function or class in it)"),
        ("__main__:here", "no module '__main__'"),
    ],
)
def test_a_function_that_no_worker_can_find_is_refused_with_what_to_do(model, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadRequest, match=re.escape(words)) as refused:
        resnetlab.run(resnetlab.Study.load(OWN, model=model))
    assert len(str(refused.value).splitlines()) == 1 and not list(tmp_path.iterdir())


def test_a_function_that_is_no_part_is_refused():
    with pytest.raises(BadRequest, match="study: <built-in function print>: is no value of a setting"):
        resnetlab.Study.load(OWN, search={"trials": print})


def test_a_recorded_study_is_loaded_again_and_its_parts_are_not_taken_over(tmp_path, monkeypatch):
    plain = resnetlab.Study.load(TINY)
    assert resnetlab.Study.load(plain.model_dump(mode="json")) == plain
    (tmp_path / "my_net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadRequest, match="own: is written by resnetlab"):
        resnetlab.Study.load(resnetlab.Study.load(OWN).model_dump(mode="json"))


@pytest.mark.parametrize(
    ("source", "changes", "words"),
    [
        ("nothing", {}, r"study nothing: no such study in studies/ \(allowed: cifar10-folder, default, "),
        ("nothing.yaml", {}, "study nothing.yaml: no such file"),
        ("default", {"search": {"trails": 4}}, "search.trails: unknown key.*did you mean 'trials'"),
        ("default", {"confirm": {"seeds": 0}}, "confirm.seeds: .*got 0"),
        ({"dataset": {"name": "digits"}}, {}, "study: name: is missing"),
    ],
)
def test_a_study_that_is_none_is_refused(source, changes, words):
    with pytest.raises(BadRequest, match=words):
        resnetlab.Study.load(source, **changes)


def test_tables_are_copies_and_effects_are_those_of_the_report(tmp_path):
    make_results(tmp_path / "made", faults=False)
    results = resnetlab.load(tmp_path / "made")
    trials = results.trials
    trials["status"] = "changed"
    assert "changed" not in set(results.trials["status"]) and len(results.epochs) > len(trials)
    report = results.report()
    assert report == tmp_path / "made/report.html" and report.is_file()
    pd.testing.assert_frame_equal(results.effects, pd.read_parquet(tmp_path / "made/effects.parquet"))
    assert results.summary().startswith("made: finished") and "\x1b" not in results.summary()


def test_a_folder_that_holds_no_results_is_refused(tmp_path):
    with pytest.raises(BadRequest, match="not a results folder"):
        resnetlab.load(tmp_path)
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(FolderRefused, match="name: is missing"):
        resnetlab.load(str(tmp_path))


@pytest.mark.parametrize("ends_process", [True, False])
def test_a_lost_cluster_ends_no_process_that_goes_on(ends_process, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(watchdog, "SILENCE", 0.0)
    monkeypatch.setattr(watchdog, "GRACE", 0.2)
    monkeypatch.setattr(watchdog.os, "_exit", lambda code: ended.set())
    with pytest.raises(resnetlab.errors.ClusterLost), watchdog.Watchdog(print, ends_process) as lifeline:
        lifeline.hold("nothing", "127.0.0.1", 9)
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "watchdog"]
        while True:
            lifeline.beat()
    thread.join(60)
    assert not thread.is_alive() and ended.is_set() == ends_process


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"phase": "search"}, "phase search: no such phase .*allowed: pilot, explore, plan, confirm, all"),
        ({"storage": ""}, "storage: is empty"),
        ({"address": "nowhere"}, "address nowhere: need `auto` or host:port"),
    ],
)
def test_options_of_a_run_that_cannot_be_are_refused(options, words, tmp_path):
    with pytest.raises(BadRequest, match=words):
        resnetlab.run(TINY, **{"storage": tmp_path} | options)
    assert not list(tmp_path.iterdir())


def test_a_process_that_uses_ray_is_told(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with pytest.raises(BadRequest, match=r"connected to Ray already \(call ray.shutdown\(\) first\)"):
        resnetlab.run(resnetlab.Study.load(TINY), storage=tmp_path)
    assert not list(tmp_path.iterdir())


CELLS = [
    "import os, signal, sys, threading, time\nimport resnetlab\n"
    f"TINY = {TINY!r}\n"
    "before = [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)], sys.stdout",
    "study = resnetlab.Study.load(TINY)\nresults = resnetlab.run(study, storage='results')",
    "print(results.trials['status'].value_counts().to_dict(), len(results.epochs), list(results.effects['name']))",
    # stopped while its trials run
    "long = resnetlab.Study.load(TINY, name='long', search={'epochs': 100000})\n"
    "def stop():\n"
    "    while not resnetlab_has_begun():\n        time.sleep(0.05)\n"
    "    os.kill(os.getpid(), signal.SIGINT)\n"
    "def resnetlab_has_begun():\n"
    "    try:\n        return len(resnetlab.load('results/long').epochs) > 0\n"
    "    except resnetlab.errors.ResnetlabError:\n        return False\n"
    "threading.Thread(target=stop).start()\n"
    "try:\n    resnetlab.run(long, storage='results')\n"
    "except resnetlab.errors.Interrupted as error:\n    print('stopped:', error)",
    "print(set(resnetlab.load('results/long').trials['status']))",
    f"%%writefile my_net.py\n{NET}",
    # in another thread than the main one
    "from my_net import net\n"
    "done = []\n"
    f"def work():\n    done.append(resnetlab.run({OWN!r} | {{'model': net}}, storage='results'))\n"
    "thread = threading.Thread(target=work)\nthread.start()\nthread.join()\n"
    "print(done[0].trials[['phase', 'norm']].value_counts(sort=False).to_dict())",
    "print('same:', before == ([signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)], sys.stdout))",
]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each cell of the notebook printed, and the folder that it ran in."""
    place = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    env = {"PYTHONPATH": str(ROOT), "RESNETLAB_CACHE": str(place / "cache"), "RAY_TMPDIR": "/tmp"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        client = NotebookClient(
            notebook, timeout=500, startup_timeout=300, resources={"metadata": {"path": str(place)}}
        )
        client.execute()
    shown = []
    for cell in notebook.cells:
        assert all(output.output_type == "stream" for output in cell.outputs), cell.outputs
        shown.append("".join(output.text for output in cell.outputs))
    return place, shown


@pytest.mark.slow
def test_a_notebook_shows_progress_as_plain_lines_and_then_the_conclusions(said):
    place, shown = said
    lines = shown[1].splitlines()
    assert "tiny: starting Ray …" in lines
    assert any(line.startswith("confirm: 4 of 4 trials ended") for line in lines), shown[1]
    assert "\x1b" not in shown[1] and "report: results/tiny/report.html" in lines
    assert (place / "results/tiny/report.html").is_file()


@pytest.mark.slow
def test_a_notebook_gets_tables(said):
    assert said[1][2] == "{'complete': 4} 4 ['arm: b - a']\n"


@pytest.mark.slow
def test_stopping_a_cell_ends_the_sweep_in_order(said):
    assert "stopped: interrupted by SIGINT; run the same study again to continue it\n" in said[1][3]
    assert "complete" not in said[1][4] and "running" not in said[1][4]


@pytest.mark.slow
def test_a_notebook_studies_a_network_that_one_of_its_cells_writes_and_in_another_thread(said):
    assert "('confirm', 'batch'): 2, ('confirm', 'group'): 2" in said[1][6].splitlines()[-1]


@pytest.mark.slow
def test_signals_and_streams_are_afterwards_as_they_were(said):
    assert said[1][7] == "same: True\n"
