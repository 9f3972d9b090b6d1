"""The output of a frozen prefix, computed once: what is left of a network then trains on it as on images.

Only where nothing moves between epochs, so that an image has one output: no augmentation. The outputs of k augmented
views would not be fresh augmentation and are not offered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from time import perf_counter

import torch
from torch import Tensor

from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.data.augment import laid
from resnetlab.vision.models import Staged
from resnetlab.vision.training import machine


@dataclass(frozen=True)
class Features:
    """A prefix's output for some images, resident where the model is.

    values: (n, …) float32, or bfloat16 where that is what the prefix gives; maps are kept as (n, H, W, C), so that
    batches are channels_last as after a convolution, unless `layout` is another. place: (N,) int64, an image's row in
    `values`, -1 where it has none. seconds: that it took.
    """

    values: Tensor
    place: Tensor
    seconds: float
    layout: torch.memory_format = torch.channels_last

    def __call__(self, rows: Tensor) -> Tensor:
        """rows: (B,) int64 image numbers -> (B, C, H, W) or (B, F), what `Staged.suffix` takes."""
        found = self.values.index_select(0, self.place.index_select(0, rows))
        return laid(found.permute(0, 3, 1, 2), self.layout) if found.dim() == 4 else found


HEAD = {"head_depth", "head_width", "dropout"}  # settings that no prefix's output depends on

_kept: dict[str, Features] = {}  # the last one of this process: trials that share a prefix follow one another


def forget() -> None:
    """Give the memory back."""
    _kept.clear()


@torch.no_grad()
def features(
    model: Staged,
    config: TrialConfig,
    images: Tensor,
    rows: Tensor,
    plain: Callable[[Tensor], Tensor],
    data: str,
    batch: int,
    layout: torch.memory_format = torch.channels_last,
) -> Features | None:
    """The prefix's output for the images `rows` (n,) int64; None where it would take too much of the memory.

    images: (N, H, W, C) uint8; plain: what turns a batch of them into the network's input; data: everything that the
    input depends on besides the rows, as text; batch: images at a time; layout: of the maps. The last trial's are used
    again where all that they depend on is equal.
    """
    start = perf_counter()
    key = _key(model, config, rows, f"{data} {images.device}")
    if key in _kept:
        return _kept[key]
    forget()
    first = _stored(model.prefix(plain(images.index_select(0, rows[:batch]))))
    if len(rows) * first[0].nbytes > machine.spare_memory(images.device):
        return None
    values = first.new_empty(len(rows), *first.shape[1:])
    values[: len(first)] = first
    for done in range(batch, len(rows), batch):
        part = rows[done : done + batch]
        values[done : done + len(part)] = _stored(model.prefix(plain(images.index_select(0, part))))
    place = torch.full((len(images),), -1, dtype=torch.int64, device=images.device)
    place[rows] = torch.arange(len(rows), device=images.device)
    if images.device.type != "cpu":
        torch.get_device_module(images.device).synchronize()
    _kept[key] = Features(values, place, perf_counter() - start, layout)
    return _kept[key]


def _stored(output: Tensor) -> Tensor:
    return output.permute(0, 2, 3, 1).contiguous() if output.dim() == 4 else output


def _key(model: Staged, config: TrialConfig, rows: Tensor, data: str) -> str:
    """A hash over all that the output depends on: the prefix's kind, weights and buffers, images, preprocessing."""
    settings = {name: getattr(config, name) for name in sorted(config.network_reads) if name not in HEAD}
    state = blake2b(repr((config.model, config.frozen, settings, data)).encode(), digest_size=16)
    tensors = [rows] + [tensor for part in model.frozen_parts for tensor in part.state_dict().values()]
    for tensor in tensors:
        state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()
