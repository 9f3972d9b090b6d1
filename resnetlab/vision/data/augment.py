"""Random crop, flip and rotation of whole batches on their device, in one gather, and normalisation.

The transforms are those of torchvision's `RandomCrop(padding)`, `RandomHorizontalFlip`, `RandomVerticalFlip` and
`RandomRotation` (nearest), one after the other, with zeros where nothing is. All of them only move pixels, so together
they are one list of source pixels for each image: the table of its angle and sides, plus the offset of its crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

STEP = 0.5  # degrees between the angles of the tables


class Augment:
    """Turns a batch (B, H, W, C) uint8 into (B, C, H, W) float32, normalised, channels_last or in another `layout`.

    shape: (H, W, C). mean, std: (C,) in [0, 1] scale, of the training split.
    crop: pad by so many pixels and crop at random. flip: mirror half of the images left to right; flip_vertical: half
    of them top to bottom. rotation: turn by up to so many degrees either way, evenly in steps of half a degree or less.

    Calling it augments, `plain` does not. Nothing synchronises with the device, and all randomness comes from the
    generator that is passed: one draw of (B,) for the table, one for the crop.
    """

    def __init__(
        self,
        shape: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        crop: int = 0,
        flip: bool = False,
        rotation: float = 0.0,
        device: torch.device | str = "cpu",
        flip_vertical: bool = False,
        layout: torch.memory_format = torch.channels_last,
    ) -> None:
        self.height, self.width, self.channels = shape
        self.layout = layout
        # x / 255 normalised is x * scale + shift; written out for a whole image, which is one fast pass.
        pixels = self.height * self.width
        centre, spread = (torch.as_tensor(values, dtype=torch.float64) for values in (mean, std))
        self.scale = (1 / (255 * spread)).float().repeat(pixels).to(device)
        self.shift = (-centre / spread).float().repeat(pixels).to(device)
        self.moves = crop > 0 or flip or flip_vertical or rotation > 0
        if not self.moves:
            return
        # Where there may be nothing the batch gets a margin: its first pixel is the zero that is shown there.
        self.margin = max(crop, 1 if rotation > 0 else 0)
        self.tables = _tables(self.height, self.width, crop, self.margin, flip, flip_vertical, float(rotation)).to(
            device
        )
        step = torch.arange(2 * crop + 1, dtype=torch.int32)
        self.offsets = (step[:, None] * (self.width + 2 * self.margin) + step).reshape(-1).to(device)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """images: (B, H, W, C) uint8 on the device, of which the generator is too."""
        return self.plain(self._moved(images, generator) if self.moves else images)

    def plain(self, images: Tensor) -> Tensor:
        """The same without augmentation."""
        batch = images.shape[0]
        flat = images.reshape(batch, -1).to(torch.float32).mul_(self.scale).add_(self.shift)
        return laid(flat.view(batch, self.height, self.width, self.channels).permute(0, 3, 1, 2), self.layout)

    def _moved(self, images: Tensor, generator: torch.Generator) -> Tensor:
        batch, margin, device = images.shape[0], self.margin, images.device
        height, width = self.height + 2 * margin, self.width + 2 * margin
        canvas = images
        if margin:
            canvas = images.new_zeros(batch, height, width, self.channels)
            canvas[:, margin:-margin, margin:-margin] = images
        choice = torch.randint(len(self.tables), (batch,), generator=generator, device=device)
        source = self.tables.index_select(0, choice)
        if len(self.offsets) > 1:
            choice = torch.randint(len(self.offsets), (batch,), generator=generator, device=device)
            source += self.offsets.index_select(0, choice)[:, None]
        first = torch.arange(0, batch * height * width, height * width, device=device)
        source = source.clamp_(min=0) + first[:, None]
        return canvas.view(-1, self.channels).index_select(0, source.view(-1)).view(images.shape)


def laid(maps: Tensor, layout: torch.memory_format) -> Tensor:
    """(B, C, H, W) that lies as channels_last, in `layout`, also where sides of 1 make the two look alike."""
    return maps if layout == torch.channels_last else maps.clone(memory_format=layout)


@lru_cache(maxsize=4)
def _tables(
    height: int, width: int, crop: int, margin: int, flip: bool, flip_vertical: bool, rotation: float
) -> Tensor:
    """(sides × angles, H·W) int32: for each pixel its source on the padded canvas at crop offset (0, 0).

    Where rotation brings in nothing the number is so far below zero that every crop offset leaves it there.
    """
    sources = torch.stack([rotation_table(height, width, angle) for angle in angles(rotation)])
    rows, columns = sources.div(width, rounding_mode="floor"), sources % width
    across = [columns, width - 1 - columns] if flip else [columns]
    down = [rows, height - 1 - rows] if flip_vertical else [rows]
    sides = [(row, column) for row in down for column in across]
    canvas_width = width + 2 * margin
    place = torch.cat([(row + margin - crop) * canvas_width + column + margin - crop for row, column in sides])
    place[(sources < 0).repeat(len(sides), 1)] = -canvas_width * (height + 2 * margin)
    return place.to(torch.int32)


def angles(rotation: float) -> list[float]:
    """Degrees from -rotation to rotation, evenly spaced by STEP or less, 0 among them."""
    steps = math.ceil(rotation / STEP)
    return [rotation * i / steps for i in range(-steps, steps + 1)] if steps else [0.0]


def rotation_table(height: int, width: int, degrees: float) -> Tensor:
    """(H·W,) int64: the source of each pixel under a nearest rotation, counter-clockwise about the centre; -1: nothing.

    The arithmetic is that of torchvision's `rotate` for tensors (`_get_inverse_affine_matrix`, `_gen_affine_grid`,
    `grid_sample`) step by step in the same precision, so that every pixel rounds as there.
    """
    turn = math.radians(-degrees)
    cos, sin = math.cos(turn), math.sin(turn)
    theta = torch.tensor([[cos, sin, 0.0], [-sin, cos, 0.0]], dtype=torch.float32).reshape(1, 2, 3)
    grid = torch.empty(1, height, width, 3)
    grid[..., 0] = torch.linspace(-width * 0.5 + 0.5, width * 0.5 - 0.5, steps=width)
    grid[..., 1] = torch.linspace(-height * 0.5 + 0.5, height * 0.5 - 0.5, steps=height)[:, None]
    grid[..., 2] = 1.0
    half = torch.tensor([0.5 * width, 0.5 * height], dtype=torch.float32)
    grid = grid.view(1, height * width, 3).bmm(theta.transpose(1, 2) / half).view(1, height, width, 2)
    numbers = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, 1, height, width)
    taken = torch.nn.functional.grid_sample(numbers, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return taken.view(-1).to(torch.int64) - 1
