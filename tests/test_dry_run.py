"""A dry run refuses what the run would refuse, with the same message and code, and tells what the run would run."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from sweeps_here import run_here
from test_sweep import Trainer, drive, start
from test_sweep import study as swept

import resnetlab.vision.data as data
from resnetlab.cli.dry_run import dry_run
from resnetlab.cli.run_and_report import run
from resnetlab.driver.checks import request
from resnetlab.driver.checks.accept import accept
from resnetlab.driver.dry_run import confirm_epochs, epochs_of, explore_epochs
from resnetlab.driver.options import Options
from resnetlab.driver.run import run_study
from resnetlab.errors import BadRequest, FolderRefused, ResnetlabError, TrialsFailed
from resnetlab.planning.making import pilot_trials
from resnetlab.planning.plan import Plan
from resnetlab.search.optuna_sampler import OptunaSampler
from resnetlab.storage.lease import check_free
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store
from resnetlab.study import build_study


def images(root, n=12):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / "train" / name).mkdir(parents=True, exist_ok=True)
        for number in range(n):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(root / f"train/{name}/{number}.png")
    return root


def study(root, **more):
    content = {
        "name": "s",
        "dataset": {"name": "folder", "root": str(root)},
        "baseline": {"blocks": 1, "width": 8, "downsample": 1, "batch_size": 8},
        "factors": {"kernel": {"levels": [1, 3]}},
        "search": {"trials": 4, "epochs": 1},
        "confirm": {"seeds": 1},
    }
    return build_study(content | more, "s.yaml")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A results folder r/s with two ended trials, and images."""
    monkeypatch.setenv("RESNETLAB_CACHE", str(tmp_path / "cache"))
    data._prepared.clear()
    one = study(images(tmp_path / "images"))
    run_here(one, tmp_path / "r/s", tmp_path / "cache", until=2)
    folder = ResultsFolder.at(tmp_path / "r/s")
    folder.write_json("study.json", one.recorded())
    yield tmp_path
    data._prepared.clear()


def ending(call):
    with pytest.raises(ResnetlabError) as caught:
        call()
    return type(caught.value), caught.value.exit_code, str(caught.value)


def cut(place):
    parquet = place / "r/s/trials.parquet"
    parquet.write_bytes(parquet.read_bytes()[:100])


def altered_plan(place):
    (place / "r/s/plan.json").write_text(json.dumps({"plan_hash": "0" * 16}))


def other_images(place):
    images(place / "images", n=13)


def arms(**found):
    return {"factors": {}, "arms": found, "confirm": {"design": "arms"}}


REFUSED = {
    "another study": (4, "trials: 4 in the folder, 8 asked for", {"search": {"trials": 8, "epochs": 1}}, {}, None),
    "a folder without its study": (4, "study.json: is missing", {}, {}, lambda p: (p / "r/s/study.json").unlink()),
    "a damaged table": (4, "trials.parquet: damaged", {}, {}, cut),
    "rows that are gone": (4, "is missing, and its rows", {}, {}, lambda p: (p / "r/s/trials.parquet").unlink()),
    "a plan that is none": (4, "plan.json: damaged", {}, {}, altered_plan),
    "other data": (3, "which is now", {}, {}, other_images),
    "no data": (3, "not a folder", {}, {}, lambda p: shutil.rmtree(p / "images")),
    "a batch over the training split": (
        2, "batch_size: 64 is more than", {"name": "t", "factors": {"batch_size": {"levels": [8, 64]}}}, {}, None,
    ),
    "a batch over an arm's share of the images": (
        2, "than the 9 training images of folder at data_fraction=0.5, arm b (allowed: 1 to 9)",
        {"name": "t"} | arms(a={"batch_size": 18}, b={"data_fraction": 0.5, "batch_size": 10}), {}, None,
    ),
    "a stage that is not there": (2, "--phase pilot: confirm.pilot is 0", {}, {"stage": "pilot"}, None),
    "exploring named arms": (
        2, "named arms explores nothing", {"name": "t"} | arms(a={}, b={"kernel": 5}), {"stage": "explore"}, None,
    ),
    "arms that train alike": (2, "arms: a and b train the same", {"name": "t"} | arms(a={}, b={"kernel": 3}), {}, None),
    "the same data at two places": (
        2, "arms.b.data.root: /elsewhere, but arm a reads the same folder from",
        {"name": "t"} | arms(a={}, b={"kernel": 5, "data": {"root": "/elsewhere"}}), {}, None,
    ),
    "more CPUs than there are": (2, "4000 CPUs", {"resources": {"cpus": 4000}}, {}, None),
    "an address that is none": (2, "--address nonsense", {}, {"address": "nonsense"}, None),
    "a storage that cannot be written": (2, "cannot be written", {}, {"storage": "/proc/x"}, None),
    "weights that are not there": (3, "cannot be read", {}, {"weights": "absent.pt"}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_dry_run_is_refused_as_the_run_is(name, place, capsys):
    code, words, changes, options, spoil = REFUSED[name]
    if spoil is not None:
        spoil(place)
        data._prepared.clear()
    one, how = study(place / "images", **changes), {"storage": str(place / "r")} | options
    before = sorted(str(path) for path in (place / "r").rglob("*"))
    dry = ending(lambda: dry_run(one, Options(**how)))
    assert dry[1] == code and words in dry[2] and "\n\n" not in dry[2]
    assert capsys.readouterr().out == "" and sorted(str(path) for path in (place / "r").rglob("*")) == before
    assert ending(lambda: run_study(one, Options(cache=place / "cache", **how))) == dry


def test_a_dry_run_is_refused_where_another_sweep_has_the_folder(place):
    store = Store(ResultsFolder.at(place / "r/s"), ("kernel",))
    one, how = study(place / "images"), {"storage": str(place / "r")}
    dry = ending(lambda: dry_run(one, Options(**how)))
    assert dry[0] is FolderRefused and "held by another sweep" in dry[2]
    assert ending(lambda: run_study(one, Options(cache=place / "cache", **how))) == dry
    store.close()
    check_free(store.folder)
    dry_run(one, Options(**how))


def test_a_dry_run_reads_an_address_and_contacts_nobody(place):
    one = study(place / "images")
    options = Options(storage=str(place / "r"), address="127.0.0.1:1", cache=place / "cache")
    assert accept(one, options, dry=True).folder.url.endswith("r/s")
    with pytest.raises(BadRequest, match=r"127\.0\.0\.1:1"):
        accept(one, options)


@pytest.mark.parametrize("more, words", [({}, "continues: 2 of 2 explore trials ended, no plan yet"),
                                         ({"name": "t"}, "a new folder")])  # fmt: skip
def test_a_dry_run_says_whether_the_run_would_continue(place, capsys, more, words):
    dry_run(study(place / "images", **more), Options(str(place / "r")))
    assert words in capsys.readouterr().out.splitlines()[-1]
    assert not (place / "r/t").exists()


def test_a_dry_run_says_how_many_trials_may_run_at_once(place, capsys):
    dry_run(study(place / "images"), Options(str(place / "r"), slots=1))
    assert "each trial gets 1 CPU, and 1 thread; at most 1 trial at once\n" in capsys.readouterr().out
    with pytest.raises(BadRequest, match="--slots 0: need at least 1"):
        dry_run(study(place / "images"), Options(str(place / "r"), slots=0))


def test_what_a_run_would_do_in_a_folder_is_said_for_each_part_and_for_a_new_plan(tmp_path):
    def look(**confirm):
        one = swept(confirm=confirm, trials=4)
        return request.look(one, ResultsFolder.at(tmp_path), {"d"}, {}, "all")

    sweep = start(tmp_path, confirm={"pilot": 2}, trials=4)
    drive(sweep, Trainer())
    sweep.store.close()
    ResultsFolder.at(tmp_path).write_json("study.json", sweep.study.model_dump(mode="json"))
    runs, plan = len(sweep.plan.arms) * 2, sweep.plan.plan_hash
    (line,) = look(pilot=2)
    assert line.endswith(f"2 of 2 pilot runs ended, 4 of 4 explore trials ended, {runs} of {runs} confirm runs ended")
    line, replaced = look(delta=0.6)
    assert line.endswith(
        "4 of 4 explore trials ended"
    )  # and not `no plan yet`: there is one, of which the next line is
    assert f"takes the place of {plan} (delta: 0.5 in the folder, 0.6 asked for), whose {runs} runs are set" in replaced


@pytest.mark.parametrize("steps, error, words", [
    (None, TrialsFailed, "none of 0 explore trials reached"), (3, BadRequest, "--phase confirm: 2 explore trials have")
])  # fmt: skip
def test_a_confirm_stage_without_what_it_confirms_is_refused_before(tmp_path, steps, error, words):
    if steps is not None:
        sweep = start(tmp_path, trials=4)
        drive(sweep, Trainer(), steps=steps)
        sweep.interrupt()
        sweep.store.close()
        ResultsFolder.at(tmp_path).write_json("study.json", sweep.study.model_dump(mode="json"))
    with pytest.raises(error, match=words):
        request.look(swept(trials=4), ResultsFolder.at(tmp_path), {"d"}, {}, "confirm")


def promised(place, capsys, stage="all", **more):
    dry_run(study(place / "images", name="t", **more), Options(str(place / "r"), stage=stage))
    return capsys.readouterr().out


def test_a_grid_promises_the_combinations_it_has(place, capsys):
    none = {"confirm": {"design": "none"}}
    said = promised(place, capsys, search={"trials": 50, "epochs": 1, "sampler": "grid"}, **none)
    assert "explore: 2 trials (grid)" in said and "all 2 combinations that can be run; 50 were asked for" in said
    assert "cost: at most 2 epochs" in said
    many = {
        "factors": {"kernel": {"levels": [1, 3, 5]}, "blocks": {"levels": [1, 2]}, "downsample": {"levels": [1, 2]}}
    }
    said = promised(place, capsys, search={"trials": 5, "epochs": 1, "sampler": "grid"}, **none, **many)
    assert "explore: 5 trials (grid)" in said and "the grid: 5 of 9 combinations that can be run\n" in said


@pytest.mark.parametrize("trials, points", [(50, 2), (1, 1)])
def test_a_grid_runs_what_it_promises_and_is_counted_so(tmp_path, trials, points):
    one = study(images(tmp_path / "i"), search={"trials": trials, "epochs": 1, "sampler": "grid"},
                confirm={"design": "none"})  # fmt: skip
    assert one.explore_trials == points
    rows = run_here(one, tmp_path / "r", tmp_path / "cache")
    assert len(rows) == points and {row["status"] for row in rows} == {"complete"}


def test_a_grid_without_end_is_refused():
    factors = {"batch_size": {"levels": list(range(1, 400))}, "width": {"levels": list(range(1, 400))}}
    with pytest.raises(
        BadRequest, match=r"search\.sampler: a grid of these factors has more than 100,000 combinations"
    ):
        study(
            "x",
            factors=factors,
            search={"sampler": "grid", "trials": 3, "epochs": 1},
            baseline={"batch_size": 8, "width": 8},
        )


def test_other_samplers_say_that_they_try_again(place, capsys):
    said = promised(place, capsys, search={"trials": 5, "epochs": 1, "sampler": "random"})
    assert "explore: 5 trials (random)" in said
    assert "only 2 combinations can be run: the search ends after them" in said
    ranged = {
        "factors": {"kernel": {"levels": [1, 3]}, "lr": {"low": 0.01, "high": 0.1}},
        "baseline": {"lr": 0.05, "batch_size": 8},
    }
    assert "tried again" not in promised(place, capsys, **ranged)


def test_a_search_that_finds_nothing_to_run_says_that_it_may_end_early(place, capsys):
    """Few of the 8,980 combinations can be run: a flat network of one block has two stages."""
    factors = {
        "kernel": {"levels": [1, 3]},
        "padding": {"levels": [0, 2, 3, 4, 5]},
        "frozen": {"levels": [0, *range(3, 900)]},
    }
    baseline = {"model": "flat-resnet", "kernel": 1, "padding": 0, "blocks": 1, "batch_size": 8}
    one = {"factors": factors, "baseline": baseline, "search": {"trials": 40, "epochs": 1, "sampler": "random"}}
    said = promised(place, capsys, **one)
    search = OptunaSampler(study(place / "images", **one))
    ran = next(number for number in range(41) if number == 40 or search.ask(number) is None)
    assert ran < 40 and f"the search may end after about {ran} of them" in said


@pytest.mark.parametrize("stage, pilot, explore, confirm", [
    ("pilot", 2, 0, 0), ("explore", 2, 4, 0), ("plan", 2, 4, 0), ("confirm", 0, 0, 2), ("all", 2, 4, 2)
])  # fmt: skip
def test_the_cost_counts_what_the_stage_runs(place, capsys, stage, pilot, explore, confirm):
    if stage == "confirm":  # of a folder that has something to confirm
        one = study(place / "images", confirm={"seeds": 1, "pilot": 2})
        dry_run(one, Options(str(place / "r"), stage=stage))
        said = capsys.readouterr().out
    else:
        said = promised(place, capsys, stage, confirm={"seeds": 1, "pilot": 2})
    assert f"cost: at most {pilot + explore + confirm} epochs" in said
    left_out = [line.partition(":")[0] for line in said.splitlines() if f"not run with --phase {stage}" in line]
    wanted = {"pilot": pilot, "explore": explore, "confirm": confirm}
    assert left_out == [name for name, epochs in wanted.items() if not epochs]


def test_the_cost_is_the_sum_of_what_is_run_once():
    one = swept(confirm={"pilot": 3}, trials=5)
    assert epochs_of(one, {"pilot", "explore", "confirm"}) == 3 * 9 + explore_epochs(one)[1] + confirm_epochs(one)
    assert len(list(pilot_trials(one))) == 3


def test_the_work_of_named_arms_counts_their_pilot(place, capsys):
    def work(pilot):
        more = arms(a={}, b={"kernel": 5})
        said = promised(place, capsys, **more | {"confirm": {"design": "arms", "seeds": 1, "pilot": pilot}})
        return float(next(line for line in said.splitlines() if line.startswith("cost:")).split("about ")[1].split()[0])

    assert work(100) > 20 * work(0)


def test_where_an_arm_finds_its_data_is_taken_from_the_command_and_no_part_of_the_study(place, monkeypatch):
    """Relative to the current folder, for workers that run elsewhere; the same study where the data has moved."""
    images(place / "other")
    monkeypatch.chdir(place)
    more = {"name": "t"} | arms(a={}, b={"data": {"root": "other", "mode": "grey"}})
    one = accept(study("images", **more), Options(str(place / "r")), dry=True)
    roots = [one.study.arm_config(name, seed=0).data.root for name in "ab"]
    assert roots == [str(place / "images"), str(place / "other")]
    one.folder.write_json("study.json", one.study.recorded())
    assert str(place) not in (place / "r/t/study.json").read_text()
    (place / "other").rename(place / "moved")
    more["arms"]["b"]["data"]["root"] = "moved"
    assert accept(study("images", **more), Options(str(place / "r")), dry=True).study.study_hash == one.study.study_hash


def test_planning_named_arms_writes_the_plan_and_nothing_has_failed(place, capsys):
    def asked(seeds=1):
        more = arms(a={}, b={"kernel": 5}) | {"confirm": {"design": "arms", "seeds": seeds}}
        return study(place / "images", name="t", **more)

    options = Options(str(place / "r"), cache=place / "cache", stage="plan")
    for _ in range(2):  # and again, where nothing is left to do
        run(asked(), options)
        assert "0 of 2 planned confirm runs" in capsys.readouterr().out
        assert [arm["name"] for arm in json.loads((place / "r/t/plan.json").read_text())["arms"]] == ["a", "b"]
    dry_run(asked(), options)
    assert "continues: 0 of 2 confirm runs ended" in capsys.readouterr().out
    dry_run(asked(seeds=9), options)
    assert "a new plan takes the place of" in capsys.readouterr().out


def lost(folder):
    folder.delete("plan.json")


def not_for_this_study(folder):
    plan = json.loads(folder.read("plan.json"))
    plan["arms"][0]["values"]["kernel"] = 4
    plan["plan_hash"] = Plan.model_validate({key: plan[key] for key in plan if key != "plan_hash"}).plan_hash
    folder.write("plan.json", json.dumps(plan).encode())


def twice_the_same(folder):
    plan = json.loads(folder.read("plan.json"))
    plan["arms"][0] |= {"values": plan["arms"][1]["values"], "changed": {}}
    plan["plan_hash"] = Plan.model_validate({key: plan[key] for key in plan if key != "plan_hash"}).plan_hash
    folder.write("plan.json", json.dumps(plan).encode())


@pytest.mark.parametrize("spoil, words", [
    (lost, "plan.json: is missing, and a plan made anew is not the one"), (not_for_this_study, "cannot be run: kernel"),
    (twice_the_same, "are the same run"),
])  # fmt: skip
def test_a_dry_run_is_refused_as_the_run_is_where_the_plan_is_lost_or_of_another_study(
    place, spoil, words, monkeypatch
):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # this process may have imported Ray, which reads it then
    one, folder = study(place / "images"), ResultsFolder.at(place / "r/s")
    run_here(one, place / "r/s", place / "cache")
    options = Options(str(place / "r"), cache=place / "cache")
    dry_run(one, options)
    spoil(folder)
    dry = ending(lambda: dry_run(one, options))
    assert dry[0] is FolderRefused and words in dry[2]
    assert ending(lambda: run_study(one, options)) == dry


def test_a_dry_run_is_refused_as_the_run_is_where_there_is_nothing_to_confirm(tmp_path):
    sweep = start(tmp_path, trials=4)
    assert drive(sweep, Trainer(broken=lambda config: True))
    sweep.store.close()
    folder = ResultsFolder.at(tmp_path)
    folder.write_json("study.json", sweep.study.recorded())
    for stage in ("plan", "all", "confirm"):
        with pytest.raises(TrialsFailed) as dry:
            request.look(swept(trials=4), folder, {"d"}, {}, stage)
        assert str(dry.value) == str(sweep.error)
    for more in ({"stage": "explore"}, {"stage": "all", "retry": True}):
        assert request.look(swept(trials=4), folder, {"d"}, {}, **more)
