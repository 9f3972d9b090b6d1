"""`search.from`: explore trials of other folders, of the same space and data alone, told once and kept."""

import shutil

import pytest

from resnetlab.calibration.simulator import Truth, drive
from resnetlab.driver.checks import warm_start
from resnetlab.errors import BadRequest
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store
from resnetlab.study import build_study
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import one_dataset

FACTS = {"git_revision": "", "versions": "{}"}


def study(name="s", lr=1.0, width=8, epochs=4, **search):
    content = {
        "name": name,
        "dataset": {"name": "glyphs"},
        "baseline": {"width": width, "lr": 0.1},
        "factors": {"kernel": {"levels": [3, 5]}, "lr": {"low": 0.01, "high": lr, "log": True}},
        "search": {"trials": 6, "epochs": epochs, "audit": 0.0, **search},
        "confirm": {"seeds": 2},
    }
    return build_study(content, "s.yaml")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder with the results of a simulated sweep."""
    place, one = tmp_path_factory.mktemp("results") / "a", study("a")
    folder = ResultsFolder.at(place)
    folder.write_json("study.json", one.recorded())
    store = Store(folder, one.columns, measures=one.measures)
    drive(Sweep(one, store, FACTS, one_dataset(one, "d", list("0123456789"))), Truth(main={"kernel": {5: 3.0}}))
    store.close()
    return place


def test_ended_explore_trials_are_read_and_kept(done, tmp_path):
    source, folder = tmp_path / "a", ResultsFolder.at(tmp_path / "s")
    shutil.copytree(done, source)
    one = study(**{"from": [str(source)]})
    found = warm_start.read(one, folder, {"d"})
    told = warm_start.trials(found)
    assert len(told) == 6 and {row["status"] for row, _ in told} == {"complete", "stopped"}, "no confirm run"
    assert all(len(epochs) == 4 for row, epochs in told if row["status"] == "complete")
    warm_start.keep(folder, found)
    shutil.rmtree(source)
    again = warm_start.read(one, folder, {"d"})
    assert warm_start.trials(again) == [(row, [tuple(pair) for pair in epochs]) for row, epochs in told]
    assert warm_start.read(study(), folder, {"d"}) == {}


@pytest.mark.parametrize(
    "other, data, words",
    [
        ({}, "e", "its trials read other data: data hash d there, e here"),
        ({"lr": 2.0}, "d", "is another space (allowed: results of the same):\n  factors.lr.high: 1.0 there, 2.0 here"),
        ({"width": 16}, "d", "baseline.width: 8 there, 16 here"),
        ({"epochs": 5}, "d", "search.epochs: 4 there, 5 here"),
    ],
)
def test_another_space_or_other_data_is_refused(done, tmp_path, other, data, words):
    with pytest.raises(BadRequest) as caught:
        warm_start.read(study(**other, **{"from": [str(done)]}), ResultsFolder.at(tmp_path / "s"), {data})
    assert str(caught.value).startswith(f"search.from: {done}: ") and words in str(caught.value)


def test_what_is_no_results_folder_or_the_study_s_own_is_refused(done, tmp_path):
    folder = ResultsFolder.at(tmp_path / "s")
    with pytest.raises(BadRequest, match="no results folder is there"):
        warm_start.read(study(**{"from": [str(tmp_path)]}), folder, {"d"})
    with pytest.raises(BadRequest, match="is the folder of this study"):
        warm_start.read(study("a", **{"from": [str(done)]}), ResultsFolder.at(done), {"d"})
