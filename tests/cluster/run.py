"""Clusters end to end, on real parts: Slurm, nodes with network addresses of their own, S3 (`make test-cluster`).

    python tests/cluster/run.py                  # all parts; what cannot be run here is said and skipped
    python tests/cluster/run.py slurm            # one part
    python tests/cluster/run.py --write          # and put the transcript into cluster/transcript.md

Ends with code 1 where a check fails.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
PAGE = ROOT / "cluster/transcript.md"
BEGIN, END = "<!-- transcript -->", "<!-- end of transcript -->"
PARTS = ("slurm", "nodes", "s3", "doors")

STUDY = """
name: tiny
dataset: {name: glyphs, variants: 2, limit: 600}
baseline: {blocks: 1, width: 4, downsample: 1, batch_size: 32, lr: 0.1}
factors:
  kernel: {levels: [1, 3]}
  optimizer: {levels: [sgd, adamw]}
search: {trials: 6, epochs: 4, reduction_factor: 2, audit: 0}
confirm: {seeds: 2}
"""


class Transcript:
    """What was done and seen, line by line, on the screen and kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failed = False
        self.place: Path | None = None  # of the part's files: written as PLACE
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        for line in (text.replace(str(self.place), "PLACE") if self.place else text).splitlines():
            self.lines.append(line)
            print(line, flush=True)

    def check(self, what: str, holds: bool, seen: object = "") -> None:
        """Note whether `what` holds; `seen` is shown where it does not."""
        self.failed |= not holds
        self.say(f"  {'ok  ' if holds else 'FAIL'} {time.monotonic() - self._began:5.0f} s  {what}")
        if not holds:
            self.say(f"       seen: {str(seen)[-3000:]}")


def write(lines: list[str], begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between the marks in cluster/transcript.md."""
    text = PAGE.read_text()
    block = "\n".join([begin, "", *(f"    {line}".rstrip() for line in lines), "", end])
    changed, found = re.subn(f"{begin}.*?{end}", lambda _: block, text, flags=re.DOTALL)
    if not found:
        raise SystemExit(f"{PAGE} has no {begin} … {end}")
    PAGE.write_text(changed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--write", action="store_true", help="put the transcript into cluster/transcript.md")
    chosen = parser.parse_args()
    unknown = set(chosen.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))} (allowed: {', '.join(PARTS)})")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # parts end what they started
    transcript = Transcript()
    for name in chosen.parts or PARTS:
        part = importlib.import_module(f"part_{name}")
        transcript.say(f"{name}: {part.__doc__.splitlines()[0]}")
        missing = part.why_not()
        if missing:
            transcript.say(f"  skipped: {missing}")
            continue
        place = Path(tempfile.mkdtemp(prefix="resnetlab-cluster-", dir="/var/tmp"))
        transcript.place = place
        (place / "tiny.yaml").write_text(STUDY)
        try:
            part.run(transcript, place)
        except Exception as error:
            traceback.print_exc()
            transcript.check(f"{name} ran to its end", False, error)
        if transcript.failed:
            print(f"files are left in {place}", file=sys.stderr)
        else:
            shutil.rmtree(place, ignore_errors=True)
    if chosen.write:
        write(transcript.lines)
    sys.exit(transcript.failed)


if __name__ == "__main__":
    main()
