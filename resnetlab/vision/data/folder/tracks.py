"""Names of files that look like frames of sequences: images that should be kept together in a split."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

FRAME = re.compile(r"(.*[^0-9])(\d+)(\.[^./]*)?$")  # what stays, the number of the frame, the suffix
MARKS = "_- .#~"  # what parts a frame's number from what is before it
SHARE = 0.5  # of the images of a set, at least so many must be in sequences
FRAMES = 3  # images that a sequence has at least
SEQUENCES = 2  # of a class, on average: numbers alone, such as cat_001 to cat_900, are no sequences


def tracks_said(paths: Sequence[str], labels: Sequence[str]) -> list[str]:
    """A warning where files are named like frames of several sequences in each class; else nothing.

    paths: from the root on, with `/`; labels: the class of each.
    """
    sequences: dict[tuple[str, str], int] = defaultdict(int)
    for path, label in zip(paths, labels, strict=True):
        folder, _, name = path.rpartition("/")
        if (match := FRAME.match(name)) and match[1][-1] in MARKS and match[1].strip(MARKS):
            sequences[label, f"{folder}/{match[1].rstrip(MARKS)}".lstrip("/")] += 1
    kept = {key: n for key, n in sequences.items() if n >= FRAMES}
    classes = len({label for label, _ in kept})
    if not kept or sum(kept.values()) < SHARE * len(paths) or len(kept) < SEQUENCES * classes:
        return []
    names = [sequence.rpartition("/")[2] for _, sequence in kept]
    whole = len(set(names)) < len(names)  # one name in several folders
    rule = r"([^/]+/[^/]+)" if whole and all("/" in sequence for _, sequence in kept) else r"([^/]+)"
    rule += r"[_\W]+\d+(?:\.\w+)?$"
    (_, first), frames = max(kept.items(), key=lambda one: one[1])
    return [
        f"names look like frames of {len(kept):,} sequences, {sum(kept.values()) / len(kept):.0f} images each (of "
        f"{first}: {frames:,}): drawn one by one, frames of a sequence lie on both sides of a split, and test accuracy "
        f"says little of new ones; keep them together: group: '{rule}'"
    ]
