"""A trained network as files that others open: safetensors with a config, and a program that needs torch alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor, nn

from resnetlab import __version__
from resnetlab.errors import BadData, BadRequest
from resnetlab.study import catalog
from resnetlab.study.data_config import PLACES
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.models import build

if TYPE_CHECKING:
    from resnetlab.vision.training.loop import Training

FILES = ("model.safetensors", "config.json", "model.pt2", "example.py")
EXAMPLE = '''"""The exported network on {n} images: needs torch, and nothing of resnetlab."""
import json, torch
about = json.load(open("config.json", encoding="utf-8"))
network = torch.export.load("model.pt2").module()
images = torch.randint(0, 256, ({n}, *about["shape"]), dtype=torch.uint8)  # (N, H, W, C), as decoded
print([about["classes"][k] for k in network(images).argmax(1).tolist()])
'''


class Deployed(nn.Module):
    """A network with the normalisation that it was trained with: (N, H, W, C) uint8 -> (N, classes) logits."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, mean: Any, std: Any):
        super().__init__()
        self.model = model
        centre, spread = (torch.as_tensor(values, dtype=torch.float64) for values in (mean, std))
        self.register_buffer("scale", (1 / (255 * spread)).float(), persistent=False)
        self.register_buffer("shift", (-centre / spread).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = images.to(torch.float32) * self.scale + self.shift
        logits: Tensor = self.model(x.permute(0, 3, 1, 2))
        return logits


def export(training: Training, classes: tuple[str, ...], place: Path, about: dict[str, Any]) -> list[Path]:
    """Write FILES into the folder `place`, which is there: weights, what they are, the program, and an example.

    about: goes into config.json beside what a loader needs. BadRequest where the folder cannot be written.
    """
    shape = training.shape
    mean, std = training.normalisation
    content = {
        "resnetlab": __version__,
        "torch": torch.__version__,
        "trial_id": training.config.trial_id,
        **about,
        "config": training.config.model_dump(mode="json", exclude={"data": set(PLACES)}),
        "shape": list(shape),
        "classes": list(classes),
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
    }
    model = copy.deepcopy(training.model).to("cpu", memory_format=torch.contiguous_format).eval()
    tensors = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    program = _program(Deployed(model, mean, std), shape)
    files = [place / name for name in FILES]
    try:
        files[0].write_bytes(safetensors.torch.save(tensors))
        files[1].write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        torch.export.save(program, files[2])
        files[3].write_text(EXAMPLE.format(n=8), encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"--export {place}: cannot be written: {error.strerror or error}") from None
    return files


def load(place: str | Path) -> tuple[Deployed, dict[str, Any]]:
    """The network in a folder that `export` wrote, from model.safetensors, in evaluation mode, and its config.json.

    Raises BadData where a file is absent, damaged, or does not belong to the other.
    """
    place = Path(place)
    try:
        about = json.loads((place / "config.json").read_text(encoding="utf-8"))
        if (name := about["config"]["model"]) not in catalog.parts("model"):
            raise BadData(
                f"{place}: its network is of the study's own code, {name} (allowed: torch.export.load of model.pt2)"
            )
        config = TrialConfig.model_validate(about["config"])
        height, width, channels = about["shape"]
        model = build(config, (height, width, channels), len(about["classes"]))
        model.load_state_dict(safetensors.torch.load_file(place / "model.safetensors"))
        return Deployed(model, about["mean"], about["std"]).eval(), about
    except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise BadData(f"{place}: not an exported trial, or damaged ({str(error).splitlines()[0]})") from None


def _program(model: nn.Module, shape: tuple[int, int, int]) -> torch.export.ExportedProgram:
    """The module as a program for any number of images."""
    model.eval()
    images = torch.zeros(2, *shape, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        return torch.export.export(model, (images,), dynamic_shapes={"images": {0: batch}})
