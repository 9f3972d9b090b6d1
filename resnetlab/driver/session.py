"""The runs of a sweep as sweep.json records them: when, where, how long, and what each waited for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from resnetlab.commands import whereabouts
from resnetlab.driver.steering import Steering
from resnetlab.provenance import provenance
from resnetlab.ray_backend.capacity import Capacity
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import Study
from resnetlab.sweep.state_machine import Sweep

RECORD = 30.0  # seconds between two writings of sweep.json
RECORD_SHARE = 0.01  # of a time budget, which a kill may lose at most


class Session:
    """This run in sweep.json. A sweep that was continued has several; the top level sums them up."""

    def __init__(self, folder: ResultsFolder, study: Study, asked: float):
        self._folder, self._asked = folder, asked
        self._began = self._written = time.monotonic()
        self._earlier = (folder.read_json("sweep.json") or {}).get("sessions", [])
        data = study.dataset
        here = whereabouts(folder.path, None if data is None else data.root or data.font_dir)
        self._content: dict[str, Any] = provenance() | here | {"started": datetime.now(UTC).isoformat(), "ended": None}

    def note(self, more: Mapping[str, Any]) -> None:
        self._content |= more

    def cluster_up(self, sweep: Sweep, capacity: Capacity, steering: Steering) -> None:
        self._sweep, self._capacity, self._steering = sweep, capacity, steering
        self._every = min(RECORD, RECORD_SHARE * sweep.time.seconds)
        now = time.monotonic()
        self._content |= {"slots": capacity.slots, "startup_seconds": now - self._began}
        self._began = now
        self.write(ended=False)

    def tick(self) -> None:
        """Call often: writes when nodes, requests or other sweeps change, and every `RECORD` seconds, so that a sweep
        that waits says for what."""
        content, sweep = self._content, self._sweep
        changed = len(self._capacity.log) != len(content["node_changes"]) or sweep.paused != content["paused"]
        changed |= bool(sweep.shared) != bool(content["shared"])
        if changed or time.monotonic() - self._written > self._every:
            self.write(ended=False)

    def write(self, ended: bool) -> None:
        sweep, now = self._sweep, time.monotonic()
        waiting = {"trials": 0 if ended else sweep.queued, "for": "" if ended else sweep.waits_for}
        self._content |= {
            "wall_seconds": now - self._began,
            "busy_seconds": sweep.clock.busy,
            "reports": sweep.clock.reports,
            "report_seconds": sweep.clock.driver,
            "sampler_seconds": sweep.clock.sampler,
            "publish_seconds": sweep.clock.publishing,
            "paused_seconds": self._steering.paused_seconds,
            "paused": sweep.paused and not ended,
            "shared": "" if ended else sweep.shared,
            "waiting": waiting,
            "node_changes": list(self._capacity.log),
            "used_seconds": now - self._asked - self._steering.paused_seconds,
        }
        if (budget := sweep.time.record()) is not None:
            self._content["time_budget"] = budget
        self._written = now
        if ended:
            self._content["ended"] = datetime.now(UTC).isoformat()
        sessions = [*self._earlier, self._content]
        totals = {name: sum(s.get(name) or 0.0 for s in sessions) for name in ("wall_seconds", "busy_seconds")}
        totals["used_seconds"] = sum(map(used_seconds, sessions))
        data = self._folder.read_json("data.json")
        content = self._content | totals | {"started": sessions[0]["started"], "data": data, "sessions": sessions}
        self._folder.write_json("sweep.json", content)


def used_seconds(session: Mapping[str, Any]) -> float:
    """Seconds that a session took, its start included."""
    before = (session.get("startup_seconds") or 0.0) + (session.get("wall_seconds") or 0.0)
    return float(session.get("used_seconds") or before)
