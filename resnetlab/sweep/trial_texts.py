"""The texts of a trial in the results folder: its failures, and what its code printed."""

from __future__ import annotations

from datetime import UTC, datetime

from resnetlab.storage.layout import ERRORS, PRINTED
from resnetlab.storage.results_folder import ResultsFolder

PRINTED_BYTES = 1 << 20  # of what a trial printed, that are stored


def add_failure(folder: ResultsFolder, trial_id: str, settings: str, reason: str, detail: str) -> None:
    """Append to errors/<trial_id>.txt. settings: in words. detail: a traceback, or the end of a log."""
    name = f"{ERRORS}/{trial_id}.txt"
    before = (folder.read(name) or b"").decode(errors="replace")
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    text = f"{when}: trial {trial_id}: {reason}\nsettings: {settings}\n\n{detail.strip() or 'nothing more is known'}\n"
    folder.write(name, (f"{before}\n{text}" if before else text).encode())


def add_printed(folder: ResultsFolder, trial_id: str, text: str) -> None:
    """Append to printed/<trial_id>.txt, which keeps the last `PRINTED_BYTES`."""
    name = f"{PRINTED}/{trial_id}.txt"
    folder.write(name, ((folder.read(name) or b"") + text.encode(errors="replace"))[-PRINTED_BYTES:])
