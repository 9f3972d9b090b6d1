"""Weights to start from: torchvision's by name, a safetensors file, or a torch file that holds nothing but weights.

No file is trusted: nothing that is read here can run code, and torchvision's downloads are compared with the hash in
their names. The identity of weights is a hash over names, types, shapes and values, whatever file they came in.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b, sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from resnetlab.errors import BadData, BadRequest

CONTAINERS = ("state_dict", "model_state_dict", "model")  # keys under which training scripts put the weights
ABOUT = "resnetlab"  # key of our JSON in the metadata of a safetensors file
MIB = 2**20


@dataclass(frozen=True)
class Weights:
    """Named values on the CPU. source: where they are from, for messages; about: JSON-like, what is known of them."""

    tensors: dict[str, Tensor]
    source: str
    about: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits over the content; `file:<digest>` is what TrialConfig.weights calls them."""
        state = blake2b(digest_size=16)
        for key, tensor in sorted(self.tensors.items()):
            state.update(repr((key, str(tensor.dtype), tuple(tensor.shape))).encode())
            state.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return state.hexdigest()

    def pack(self) -> bytes:
        """As the bytes of a safetensors file, `about` included."""
        tensors = {key: tensor.detach().contiguous().clone() for key, tensor in self.tensors.items()}
        return safetensors.torch.save(tensors, {ABOUT: json.dumps(self.about, sort_keys=True)})

    @classmethod
    def unpack(cls, raw: bytes, source: str) -> Weights:
        """From the bytes of a safetensors file. Raises BadData."""
        try:
            tensors = safetensors.torch.load(raw)
            header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
            about = json.loads(header.get("__metadata__", {}).get(ABOUT, "{}"))
        except (SafetensorError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            raise BadData(f"{source}: not a safetensors file, or damaged ({_first_line(error)})") from None
        return cls(_plain(tensors, source), source, about if isinstance(about, dict) else {})


def read(path: str | Path) -> Weights:
    """The weights in a file, told apart by content: safetensors, else torch's own format, read as weights only.

    A torch file may hold the weights themselves or have them under `state_dict`, `model_state_dict` or `model`. Raises
    BadData where it is absent, damaged, or a pickle that asks for anything but tensors and plain values.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(9)
            header = int.from_bytes(start[:8], "little")
            if path.suffix == ".safetensors" or (start[8:] == b"{" and header <= size):
                return Weights.unpack(start + file.read(), str(path))
    except OSError as error:
        raise BadData(f"{path}: weights cannot be read ({error.strerror or error})") from None
    return Weights(_plain(_torch_file(path), str(path)), str(path))


def compressed(file: BinaryIO | Path) -> str | None:
    """The first member of a torch file that is compressed, which torch.save never does: it may grow a thousandfold."""
    try:
        with ZipFile(file) as archive:
            return next((info.filename for info in archive.infolist() if info.compress_type != ZIP_STORED), None)
    except (BadZipFile, OSError, ValueError):
        return None  # torch's reader says more


def _torch_file(path: Path) -> Any:
    if member := compressed(path):
        raise BadData(f"{path}: refused: {member} is compressed (allowed: as torch.save writes it, or safetensors)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is refused is refused with one message
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers raise whatever the bytes led them to
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, UnpicklingError):
            asks = f"asks to run {wanted[1]}" if wanted else "holds more than tensors and plain values"
            raise BadData(
                f"{path}: refused: this pickle {asks}, and weights need no code (save them with "
                "torch.save(model.state_dict(), …) or as safetensors)"
            ) from None
        raise BadData(
            f"{path}: not a file of weights, or damaged ({type(error).__name__}; allowed: safetensors, torch.save)"
        ) from None
    if isinstance(content, Mapping):
        content = next((content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)), content)
    return content


def _plain(content: Any, source: str) -> dict[str, Tensor]:
    """BadData where `content` is anything but finite tensors by name."""
    if not isinstance(content, Mapping) or not content:
        raise BadData(f"{source}: holds a {type(content).__name__}, need weights by name")
    if all(str(key).startswith("module.") for key in content):  # as DataParallel names them
        content = {str(key).removeprefix("module."): value for key, value in content.items()}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise BadData(f"{source}: {key} is a {type(value).__name__}, need tensors by name")
        if value.layout != torch.strided or value.is_quantized:
            raise BadData(f"{source}: {key} is sparse or quantized, need plain tensors")
        if value.nbytes > value.untyped_storage().nbytes():
            raise BadData(f"{source}: {key} claims {value.numel():,} values and holds fewer, need plain tensors")
        if value.is_floating_point() and not value.isfinite().all():
            raise BadData(f"{source}: {key} has values that are not finite")
    return dict(content)


def named(model: str, name: str) -> Weights:
    """torchvision's weights `name` for its network `model`, from torch's hub cache or else downloaded into it.

    Raises BadRequest where torchvision has no such weights, BadData where they are neither here nor to be had, or
    are not the published ones.
    """
    from torchvision.models import get_model_weights

    published = get_model_weights(model).__members__
    if name not in published or name == "DEFAULT":  # what DEFAULT means changes with torchvision's version
        allowed = ", ".join(sorted(set(published) - {"DEFAULT"}))
        raise BadRequest(f"weights: torchvision has no {name!r} for {model} (allowed: {allowed})")
    url = published[name].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    prefix = path.stem.rpartition("-")[2]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), prefix, progress=False)
        except (OSError, RuntimeError) as error:
            raise BadData(
                f"weights {name} of {model} are neither here nor to be downloaded ({_first_line(error)}): put "
                f"{path.name} (from {url}) into {path.parent}, or give a file of weights with --weights"
            ) from None
    if not _sha256(path).startswith(prefix):
        raise BadData(f"{path}: damaged: its SHA-256 does not begin with {prefix}; delete it and run again")
    found = read(path)
    return Weights(found.tensors, f"{model} {name}", {"weights": name, "file": path.name})


def _sha256(path: Path) -> str:
    state = sha256()
    with path.open("rb") as file:
        while block := file.read(MIB):
            state.update(block)
    return state.hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
