"""How many trials share a GPU: the decision from planted numbers, the measurement with a fake meter, and errors."""

import json
from pathlib import Path

import pytest

from resnetlab.errors import BadRequest
from resnetlab.ray_backend.gpu import packing, probe
from resnetlab.ray_backend.gpu.packing import Measurement, cpus_for, decide, measure
from resnetlab.study import build_study
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.data import prepare

GIB = 2**30


def seen(trials, rate, memory=1.0, total=80.0, used=0.0, busy=None):
    return Measurement(trials, rate, int(memory * GIB), int(total * GIB), int(used * GIB), busy)


def planted(rates, **more):
    """A rig that answers from `rates`, by trials side by side, and notes what it was asked."""
    asked = []

    def answer(trials):
        asked.append(trials)
        return seen(trials, rates[trials], **more)

    return answer, asked


@pytest.mark.parametrize(
    "rates, more, most, tried, trials, words",
    [
        ({1: 100, 2: 190, 4: 340, 8: 350}, {}, 99, [1, 2, 4, 8], 4, "8 together only 3.50 times"),
        ({1: 100, 2: 104}, {}, 99, [1, 2], 1, "2 together only 1.04 times"),
        ({1: 100, 2: 190}, {"memory": 30}, 99, [1, 2], 2, "no more fit the memory"),
        ({1: 100, 2: 190, 3: 280}, {"memory": 20}, 99, [1, 2, 3], 3, "no more fit the memory"),
        ({1: 100, 2: 190, 3: 270}, {}, 3, [1, 2, 3], 3, "there are CPUs for no more"),
        ({1: 100}, {"busy": 0.97}, 99, [1], 1, "busy for 97% of the time, which leaves nothing to gain"),
        ({1: 100}, {"memory": 60}, 99, [1], 1, "no more fit the memory"),
        ({1: 100, 2: 190}, {"memory": 20, "used": 24}, 99, [1, 2], 2, "no more fit the memory"),
    ],
)
def test_as_many_as_fit_and_as_still_add_throughput(rates, more, most, tried, trials, words):
    answer, asked = planted(rates, **more)
    chosen, found = measure(answer, most)
    assert asked == tried and chosen.trials == trials and words in chosen.reason
    record = packing.record(chosen, found)
    assert json.loads(json.dumps(record))["seen"][0]["rate"] == 100


def test_memory_that_grows_with_company_takes_the_last_step_back():
    counts = [seen(1, 100, memory=10), seen(2, 190, memory=10), seen(4, 360, memory=18)]
    assert decide(counts, 99).trials == 2  # four of 18 GiB with their margin are more than 76


def test_a_share_is_what_ray_can_count():
    for trials in range(1, 33):
        gpus = packing.Share(trials, "").gpus
        assert gpus * trials <= 1 and int(1 / gpus + 1e-9) == trials and round(gpus, 4) == gpus


def test_a_trial_that_is_too_large_for_the_gpu_is_refused():
    with pytest.raises(BadRequest, match=r"needs 90.00 GiB of a GPU that has 80.00 GiB free"):
        measure(planted({1: 100}, memory=90)[0], 99)


def test_cpus_bound_the_trials_of_a_gpu():
    node = {"Alive": True, "Resources": {"CPU": 16.0, "GPU": 2.0}}
    assert cpus_for([node, {"Alive": True, "Resources": {"CPU": 99.0}}], cpus=2) == 4
    with pytest.raises(BadRequest, match="no node has a GPU"):
        cpus_for([{"Alive": True, "Resources": {"CPU": 99.0}}], cpus=1)


class Fake:
    """A meter of a GPU on which every process holds a GiB from its first look on."""

    looks = 0

    def memory(self):
        self.looks += 1
        return (0 if self.looks == 1 else 2 * GIB), 16 * GIB

    def busy(self):
        return 0.3


def test_trials_are_really_run_side_by_side(tmp_path):
    """Two processes, on the CPU, with a meter that pretends."""
    config = TrialConfig(
        data={"name": "glyphs", "variants": 1, "limit": 200}, blocks=1, width=4, downsample=1, batch_size=32
    )
    prepare(config.data, tmp_path)
    message = {"config": config.model_dump(mode="json"), "cache": str(tmp_path), "device": "cpu", "threads": 1}
    found = probe.side_by_side(2, message, meter=Fake, seconds=0.3)
    assert found.trials == 2 and found.rate > 0
    assert (found.memory, found.total, found.utilisation) == (GIB, 16 * GIB, pytest.approx(0.3))


def test_without_nvml_auto_is_refused():
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU here")
    with pytest.raises(BadRequest, match=r"auto needs NVML, which is not here \(allowed: a number\)"):
        probe.Nvml()


STUDY = {
    "name": "s",
    "dataset": {"name": "glyphs"},
    "factors": {"kernel": {"levels": [3, 5]}},
    "search": {"second_objective": "train_seconds"},
}


@pytest.mark.parametrize(
    "resources, shared",
    [({"gpus": 0.25}, "a GPU"), ({"gpus": "auto"}, "a GPU"), ({"cpus": 0.5}, "a CPU core")],
)
def test_times_under_sharing_are_no_objective(resources, shared):
    with pytest.raises(BadRequest, match=f"train_seconds is no objective where trials share {shared}"):
        build_study(STUDY | {"resources": resources}, "s.yaml")
    build_study(STUDY | {"resources": resources, "search": {"second_objective": "parameters"}}, "s.yaml")
    build_study(STUDY | {"resources": {"gpus": 2, "cpus": 4}}, "s.yaml")


@pytest.mark.parametrize("gpus", [1.5, -1, 1e-5, 65, "most", float("nan"), float("inf"), True])
def test_a_share_that_no_gpu_has_is_refused(gpus):
    with pytest.raises(
        BadRequest, match=r"resources.gpus: .*\(allowed: 0, 0.0001 to 1, or auto; whole numbers .* of your own\)"
    ):
        build_study(STUDY | {"resources": {"gpus": gpus}}, "s.yaml")
