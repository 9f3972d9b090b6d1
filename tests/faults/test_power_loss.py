"""A power cut at any moment: before and after every fsync, rename and link, of a driver that writes and publishes.

SIGKILL does not model this: the kernel still writes what a dead process had in its page cache. Here a file's bytes
last only once it was fsynced, a name only once its directory was, and a cut leaves one of four disks: no name and no
byte beyond that; all names but files that were not fsynced empty, or cut in half; everything (as after SIGKILL).
"""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from test_store import epoch_row, trial_row

from resnetlab.storage import lease
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store, read_table

REMAINS = {
    "only what was synced": (False, lambda data: b""),
    "names without bytes": (True, lambda data: b""),
    "names with half the bytes": (True, lambda data: data[: len(data) // 2]),
    "all": (True, lambda data: data),
}


class Disk:
    """What of the folder `root` a power cut would leave, followed through the calls that make things last."""

    def __init__(self, root: Path, monkeypatch, at_each_call):
        self.root, self.at_each_call, self.calls = root, at_each_call, 0
        self._bytes: dict[int, bytes] = {}  # of files, by inode, when they were last fsynced
        self._names: dict[Path, dict[str, bytes | None]] = {}  # of folders when last fsynced; None for a folder
        for name in ("fsync", "replace", "link"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, call):
        def watched(*arguments, **more):
            self.calls += 1
            self.at_each_call(f"before {call.__name__}")
            result = call(*arguments, **more)
            if call.__name__ == "fsync":
                self._lasts(arguments[0])
            self.at_each_call(f"after {call.__name__}")
            return result

        return watched

    def _lasts(self, handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            self._names[path] = {
                p.name: None if p.is_dir() else self._synced(p, lambda data: b"") for p in path.iterdir()
            }
        else:
            self._bytes[os.fstat(handle).st_ino] = path.read_bytes()

    def _synced(self, path: Path, otherwise) -> bytes:
        data = path.read_bytes()
        return data if self._bytes.get(path.stat().st_ino) == data else otherwise(data)

    def after_cut(self, place: Path, names: bool, unsynced) -> None:
        """Lay out what a cut at this moment would leave."""
        self._lay(self.root, place, names, unsynced)

    def _lay(self, source: Path, place: Path, names: bool, unsynced) -> None:
        place.mkdir()
        if names:
            found = {p.name: None if p.is_dir() else self._synced(p, unsynced) for p in source.iterdir()}
        else:
            found = self._names.get(source, {})
        for name, data in found.items():
            if data is None:
                self._lay(source / name, place / name, names, unsynced)
            else:
                (place / name).write_bytes(data)


@pytest.fixture
def memory():
    """A folder in memory, where fsync costs nothing."""
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield place
    shutil.rmtree(place)


@pytest.mark.experiment(13)
@pytest.mark.parametrize("remains", REMAINS)
def test_a_power_cut_at_any_moment_loses_and_doubles_no_row(memory, monkeypatch, remains):
    names, unsynced = REMAINS[remains]
    monkeypatch.setattr(lease, "_alive", lambda *holder: False)  # the power is out
    acknowledged: list[int] = []
    cuts: dict[str, int] = {}
    seen: set[bytes] = set()

    def cut(moment: str) -> None:
        cuts[moment] = cuts.get(moment, 0) + 1
        place = memory / f"cut-{sum(cuts.values())}"
        disk.after_cut(place, names, unsynced)
        with monkeypatch.context() as undisturbed:
            for name, call in real.items():
                undisturbed.setattr(os, name, call)
            found = look(place) + bytes([len(acknowledged)])
            if found not in seen:
                check(place / "study")
            seen.add(found)
        shutil.rmtree(place)

    def check(study: Path) -> None:
        again = Store(ResultsFolder.at(study), ("kernel",))
        rows = again.read("epochs")["epoch"].to_pylist()
        assert rows == list(range(1, len(rows) + 1)) and len(rows) >= len(acknowledged), cuts
        assert len(again.trials) >= bool(acknowledged)
        again.add("epochs", epoch_row("a", len(rows) + 1))
        again.flush()
        assert len(read_table(ResultsFolder.at(study), "epochs")) == len(rows) + 1

    real = {name: getattr(os, name) for name in ("fsync", "replace", "link")}
    (memory / "live").mkdir()
    disk = Disk(memory / "live", monkeypatch, cut)
    store = Store(ResultsFolder.at(memory / "live/study"), ("kernel",))
    for epoch in range(1, 4):
        store.add("trials", trial_row("a", 0, epochs_run=epoch))
        store.add("epochs", epoch_row("a", epoch))
        store.flush()
        acknowledged.append(epoch)
        if epoch == 2:
            store.publish()
    store.close()
    assert disk.calls > 40 and set(cuts) == {f"{when} {name}" for when in ("before", "after") for name in real}
    assert len(seen) > 10


def look(place: Path) -> bytes:
    """All names and bytes below `place`, but for the random part of names."""
    parts = []
    for path in sorted(place.rglob("*")):
        parts.append(str(path.relative_to(place)).split(".aside")[0][: -8 if ".aside" in path.name else None].encode())
        parts.append(path.read_bytes() if path.is_file() else b"")
    return b"\0".join(parts)
