"""Weights from files and by name: nothing runs code, wrong weights are refused with a clear message."""

import io
import os
import pickle
from collections import OrderedDict
from hashlib import sha256
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file

from resnetlab.errors import BadData, BadRequest
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.models import build, pretrained
from resnetlab.vision.models.pretrained import Weights, named, read
from resnetlab.vision.training.transfer import load_backbone

SHAPE = (16, 16, 3)


def network(model="resnet18", classes=5, seed=0, **settings):
    torch.manual_seed(seed)
    return build(TrialConfig(data={"name": "folder"}, model=model, **settings), SHAPE, classes)


def torchvision_state(model="resnet18"):
    from torchvision import models

    torch.manual_seed(7)
    return getattr(models, model)(weights=None).state_dict()


def stages(model):
    return {key: value.clone() for key, value in model.state_dict().items() if key.startswith("stages.")}


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["safetensors", "pt", "pt under state_dict", "pt of DataParallel", "old pt"])
def test_forms_of_one_file_are_the_same_weights(tmp_path, form):
    state = torchvision_state()
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.bin")
    if form == "safetensors":
        save_file(state, path)
    elif form == "pt under state_dict":
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif form == "pt of DataParallel":
        torch.save(OrderedDict((f"module.{key}", value) for key, value in state.items()), path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "pt")
    found = read(path)
    assert found.digest == Weights(dict(state), "made here").digest
    model = network()
    head = model.head[2].weight.clone()
    load_backbone(model, found)
    assert torch.equal(model.stages[0].conv1.weight, state["conv1.weight"])
    assert torch.equal(model.stages[4][1].bn2.running_var, state["layer4.1.bn2.running_var"])
    assert torch.equal(model.head[2].weight, head), "the head must be new"
    assert model.stages[1][0].conv1.weight.requires_grad


def test_every_torchvision_network_computes_the_same_with_its_weights():
    from torchvision import models

    for name in ("resnet18", "resnet34", "resnet50"):
        torch.manual_seed(3)
        theirs = getattr(models, name)(weights=None).eval()
        model = network(name, 1000).eval()
        load_backbone(model, Weights(theirs.state_dict(), "torchvision"))
        model.head[2].load_state_dict(theirs.fc.state_dict())
        x = torch.rand(1, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(model(x), theirs(x))


def test_digest_is_of_names_shapes_types_and_values():
    base = {"a": torch.arange(6.0), "b": torch.ones(2)}
    same = Weights({"b": base["b"], "a": base["a"].clone()}, "elsewhere")
    others = [
        {"a": base["a"].reshape(2, 3), "b": base["b"]},
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"].double(), "b": base["b"]},
        {"a": base["a"] + 1e-3, "b": base["b"]},
    ]
    digests = {Weights(tensors, "").digest for tensors in [base, *others]}
    assert Weights(base, "").digest == same.digest and len(digests) == 5
    assert len(same.digest) == 32


def test_packed_and_unpacked(tmp_path):
    model = network("cnn-resnet", width=4).to(memory_format=torch.channels_last)
    packed = Weights(stages(model), "here", {"trial_id": "a" * 12, "classes": ["ä", "b"]})
    found = Weights.unpack(packed.pack(), "there")
    assert found.digest == packed.digest and found.about == packed.about
    (tmp_path / "w.safetensors").write_bytes(packed.pack())
    again = read(tmp_path / "w.safetensors")
    assert (again.digest, again.about) == (packed.digest, packed.about)
    other = network("cnn-resnet", width=4, seed=1)
    load_backbone(other, found)
    assert all(torch.equal(value, stages(model)[key]) for key, value in stages(other).items())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path, protocol, wrapped):
    target, path = tmp_path / "owned", tmp_path / "weights.pt"
    if wrapped:
        torch.save({"conv1.weight": torch.ones(2), "x": Evil(target)}, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(Evil(target), protocol=protocol))
    asks = r"asks to run posix\.system" if protocol == 2 else "holds more than tensors"
    with pytest.raises(BadData, match=rf"weights\.pt: refused: this pickle {asks}"):
        read(path)
    assert not target.exists()


def damaged():
    state = {"a": torch.ones(1000)}
    zipped, safe = io.BytesIO(), Weights(state, "").pack()
    torch.save(state, zipped)
    module, nan = io.BytesIO(), io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), module)
    torch.save({"a": torch.tensor([1.0, float("nan")])}, nan)
    text = io.BytesIO()
    torch.save({"a": torch.ones(1), "b": "text"}, text)
    return {
        "absent": (None, "cannot be read"),
        "empty": (b"", "not a file of weights"),
        "text": (b"hello " * 100, "not a file of weights"),
        "half.pt": (zipped.getvalue()[:2000], "not a file of weights, or damaged"),
        "half.safetensors": (safe[:-10], "not a safetensors file, or damaged"),
        "bomb.safetensors": ((2**60).to_bytes(8, "little") + b"{}", "not a safetensors file"),
        "module.pt": (module.getvalue(), r"refused: this pickle asks to run torch\.nn\.modules\.linear\.Linear"),
        "nan.pt": (nan.getvalue(), "a has values that are not finite"),
        "text.pt": (text.getvalue(), "b is a str"),
    }


@pytest.mark.parametrize("name", damaged())
def test_files_that_are_not_weights(tmp_path, name):
    raw, message = damaged()[name]
    if raw is not None:
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(BadData, match=message) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)


def test_tensors_that_are_not_plain_are_refused(tmp_path):
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    with pytest.raises(BadData, match=r"sparse\.pt: a is sparse or quantized"):
        read(tmp_path / "sparse.pt")


def test_weights_of_another_network_are_named():
    state = torchvision_state("resnet34")
    state["conv1.weight"] = torch.ones(64, 1, 7, 7)
    del state["layer1.0.bn1.weight"]
    model = network()
    before = stages(model)
    with pytest.raises(BadData) as caught:
        load_backbone(model, Weights(dict(state), "r34.pt"))
    message = str(caught.value)
    assert message.startswith("r34.pt: these weights are of another network; ")
    assert "1 missing: stages.1.0.bn1.weight" in message
    assert "not known: layer1.2.bn1.bias, " in message
    assert "1 of another shape: conv1.weight (64, 1, 7, 7) where the network has (64, 3, 7, 7)" in message
    assert all(torch.equal(value, before[key]) for key, value in stages(model).items()), "half loaded"


def test_weights_for_the_wrong_family_are_named():
    given = Weights(dict(network("cnn").state_dict()), "cnn")
    with pytest.raises(BadData, match="of another network"):
        load_backbone(network("cnn-resnet"), given)
    with pytest.raises(BadData, match="of another network"):
        load_backbone(network("cnn", width=8), given)
    load_backbone(network("cnn", classes=9), given)


def test_half_precision_is_widened():
    state = {key: value.half() if value.is_floating_point() else value for key, value in torchvision_state().items()}
    model = network()
    load_backbone(model, Weights(state, "fp16"))
    assert model.stages[0].conv1.weight.dtype == torch.float32
    assert torch.equal(model.stages[0].conv1.weight, state["conv1.weight"].float())


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache and no network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def fails(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fails)
    return tmp_path / "hub/checkpoints"


def test_names_without_network_say_what_to_do(hub):
    with pytest.raises(BadData) as caught:
        named("resnet18", "IMAGENET1K_V1")
    for part in ("resnet18", str(hub), "no network", "resnet18-f37072fd.pth", "file of weights"):
        assert part in str(caught.value)
    assert not list(hub.iterdir())


@pytest.mark.parametrize("name", ["DEFAULT", "IMAGENET1K_V9"])
def test_names_that_torchvision_does_not_have(hub, name):
    with pytest.raises(BadRequest, match=r"allowed: IMAGENET1K_V1, IMAGENET1K_V2"):
        named("resnet50", name)


def test_names_in_the_cache_are_checked_against_their_hash(hub, monkeypatch):
    buffer = io.BytesIO()
    torch.save(torchvision_state(), buffer)
    file = f"resnet18-{sha256(buffer.getvalue()).hexdigest()[:8]}.pth"
    from torchvision.models import ResNet18_Weights

    monkeypatch.setattr(type(ResNet18_Weights.IMAGENET1K_V1), "url", property(lambda _: f"https://x.invalid/{file}"))
    hub.mkdir(parents=True)
    (hub / file).write_bytes(buffer.getvalue())
    found = named("resnet18", "IMAGENET1K_V1")
    assert found.digest == Weights(torchvision_state(), "").digest and found.source == "resnet18 IMAGENET1K_V1"
    (hub / file).write_bytes(buffer.getvalue() + b"x")
    with pytest.raises(BadData, match="damaged: its SHA-256 does not begin with"):
        named("resnet18", "IMAGENET1K_V1")


def test_nothing_is_read_where_no_weights_are_asked_for(monkeypatch):
    monkeypatch.setattr(pretrained, "named", None)
    from resnetlab.vision.training.transfer import starting_weights

    assert starting_weights(TrialConfig(data={"name": "folder"})) is None
