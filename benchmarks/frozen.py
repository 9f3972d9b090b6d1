"""Measure ResNet-20 with every stage frozen: CPU time of an epoch that trains a linear head on cached outputs, and of
one that runs the frozen stages again; one thread, CIFAR-sized images, no augmentation, without the first epoch."""

from __future__ import annotations

from common import Book, Row, cpu_seconds, interleaved, options, ratios, spread
from workloads import NETS, config, images

from resnetlab.vision.training import prefix
from resnetlab.vision.training.loop import Training


def epochs(batch: int, n: int, count: int) -> list[Row]:
    net = NETS["ResNet-20, batch 128"] | {"batch_size": batch, "frozen": 10}
    trial = config(net, crop=0, flip=False, rotation=0.0)
    data = images(count, held=batch)
    arms = {}
    for name, cached in (("cached", True), ("run again", False)):
        training = Training(trial, data, cache_prefix=cached)
        training.run_epoch()
        arms[name] = lambda training=training: cpu_seconds(training.run_epoch) / count
    found = interleaved(arms, n)
    prefix.forget()
    title = f"frozen ResNet-20, batch {batch}"
    rows = [spread(f"{title}: {name}", "µs/image", [1e6 * value for value in found[name]]) for name in arms]
    return [*rows, spread(f"{title}: cached head faster by", "×", ratios(found["run again"], found["cached"]))]


def main() -> None:
    chosen = options(__doc__)
    book = Book("frozen", chosen.quick, chosen.again)
    for batch in (32, 128):
        rows = book.part(
            f"batch {batch}",
            lambda batch=batch: epochs(batch, 2 if chosen.quick else 5, 256 if chosen.quick else 2048),
        )
        book.target(f"frozen head from cache at least 40 times faster an epoch, batch {batch}", rows[-1], 40.0, False)
    book.finish()


if __name__ == "__main__":
    main()
