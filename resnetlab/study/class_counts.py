"""How many images of each class a split has, and what a guess without looking reaches on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

UNBALANCED = 2.0  # times as many images of one class as of another, from which accuracy alone misleads
WORDS = {"train": "training", "val": "validation", "test": "test"}  # splits, as people read them


@dataclass(frozen=True)
class ClassCounts:
    """The classes of one split. counts: images of each class, by its number."""

    counts: tuple[int, ...]

    @property
    def images(self) -> int:
        return sum(self.counts)

    @property
    def present(self) -> int:
        """Classes that have an image."""
        return sum(1 for count in self.counts if count)

    @property
    def smallest(self) -> int:
        """The number of the class with the fewest images."""
        return min(range(len(self.counts)), key=lambda number: self.counts[number])

    @property
    def largest(self) -> int:
        """The number of the class with the most images."""
        return max(range(len(self.counts)), key=lambda number: self.counts[number])

    @property
    def majority(self) -> float:
        """The accuracy of always saying the largest class, a fraction."""
        return max(self.counts) / self.images if self.images else 0.0

    @property
    def ratio(self) -> float:
        """How many times as many images the largest class has as the smallest that has any."""
        held = [count for count in self.counts if count]
        return max(held) / min(held) if held else 1.0


def table(splits: Mapping[str, Sequence[int]], classes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row of text for each split: its images and classes, its smallest and largest, and what always
    saying the largest class reaches. splits: images of each class, by train, val and test."""
    rows = []
    for split, counts in splits.items():
        found = ClassCounts(tuple(counts))
        few, many = (f"{found.counts[at]:,} ({classes[at]})" for at in (found.smallest, found.largest))
        held = f"{found.present:,}" + (f" of {len(classes):,}" if found.present < len(classes) else "")
        rows.append([WORDS.get(split, split), f"{found.images:,}", held, few, many, f"{found.majority:.1%}"])
    return ["split", "images", "classes", "smallest class", "largest class", "always the largest"], rows


def judged(splits: Mapping[str, Sequence[int]], classes: Sequence[str]) -> list[str]:
    """Lines on chance and imbalance. splits: as of `table`."""
    lines = [f"chance: {1 / len(classes):.1%}, one of {len(classes):,} classes"]
    if "test" in splits and (found := ClassCounts(tuple(splits["test"]))).majority > 1.05 / len(classes):
        lines[0] += f"; always {classes[found.largest]!r}: {found.majority:.1%} of the test images"
    train = ClassCounts(tuple(splits["train"]))
    if train.ratio >= UNBALANCED:
        rare = sum(1 for count in train.counts if count * UNBALANCED <= max(train.counts))
        lines.append(
            f"unbalanced: up to {train.ratio:.3g} times as many training images of one class as of another; {rare:,} "
            f"of {len(classes):,} classes have at most half as many as the largest, and accuracy hardly sees them "
            "(confirm balanced_accuracy or macro_f1; class_weights: balanced or sampling: balanced train on them more)"
        )
    return lines
