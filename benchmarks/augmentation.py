"""Measure augmentation: microseconds of CPU time per CIFAR-sized image, on one thread, for crop, flip, rotation by up
to 15 degrees, and normalisation. Ours moves whole batches by one gather; the other is torchvision's on PIL images."""

from __future__ import annotations

import torch
from common import Book, Row, cpu_seconds, interleaved, options, spread
from PIL import Image
from workloads import AUGMENT, MEAN, STD, transform

from resnetlab.vision.data.augment import Augment
from resnetlab.vision.training import machine
from resnetlab.vision.training.loop import AHEAD_CPU

BATCHES = (32, 128, 512)


def per_image(n: int, count: int) -> list[Row]:
    """Our augmentation in the portions of the training loop: as many whole batches as fit into AHEAD_CPU values."""
    machine.prepare(1)
    pixels = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8)
    augment = Augment((32, 32, 3), MEAN, STD, **AUGMENT)
    source = torch.Generator().manual_seed(0)
    chain = transform()
    few = pixels[: max(8, count // 20)].numpy()

    def ours(batch: int) -> float:
        portion = batch * max(1, AHEAD_CPU // (batch * pixels[0].numel()))
        return cpu_seconds(lambda: [augment(part, source) for part in pixels.split(portion)]) / count

    def theirs() -> float:
        return cpu_seconds(lambda: [chain(Image.fromarray(image)) for image in few]) / len(few)

    arms = {f"ours, batch {batch}": lambda batch=batch: ours(batch) for batch in BATCHES} | {"PIL, each": theirs}
    found = interleaved(arms, n)
    return [spread(f"augmentation: {arm}", "µs/image", [1e6 * value for value in found[arm]]) for arm in arms]


def main() -> None:
    chosen = options(__doc__)
    book = Book("augmentation", chosen.quick, chosen.again)
    rows = book.part("all", lambda: per_image(3 if chosen.quick else 15, 1024 if chosen.quick else 10_240))
    found = {row["what"]: row for row in rows}
    for batch in BATCHES:
        row = found[f"augmentation: ours, batch {batch}"]
        book.target(f"augmentation at most 13 µs an image at batch {batch}", row, 13.0)
    book.finish()


if __name__ == "__main__":
    main()
