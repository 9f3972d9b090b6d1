"""An SSH server on this machine's loopback, with keys of its own, and tunnels through it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s3_here import free_port

SERVER = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
MISSING = None if SERVER and shutil.which("ssh") else "no sshd or ssh here (tests/debian.sh installs them)"
# As whom the server runs, and lets in. Where systemd answers for it, `nobody` is locked.
USER = "daemon" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name


class Sshd:
    """An SSH server that lets in one key. Needs no privileges. A context manager."""

    def __enter__(self) -> Sshd:
        self._place = Path(tempfile.mkdtemp(prefix="resnetlab-sshd-"))
        self.port = free_port()
        for key in ("host", "mine"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._place / key)]
            subprocess.run(words, check=True)
        shutil.copy(self._place / "mine.pub", self._place / "authorized_keys")
        known = (self._place / "host.pub").read_text()
        (self._place / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {known}")
        options = {
            "HostKey": self._place / "host", "AuthorizedKeysFile": self._place / "authorized_keys", "PidFile": "none",
            "UsePAM": "no", "StrictModes": "no", "PasswordAuthentication": "no", "AllowTcpForwarding": "local",
        }  # fmt: skip
        assert SERVER is not None
        words = [SERVER, "-D", "-e", "-f", "/dev/null", "-p", str(self.port), "-o", "ListenAddress=127.0.0.1"]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        other = {} if os.getuid() else {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []}
        if other:
            self._place.chmod(0o755)
            shutil.chown(self._place / "host", USER)
        self._process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, **other)
        self._wait(self.port, self._process)
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=120)
        shutil.rmtree(self._place)

    @contextmanager
    def tunnel(self, port: int) -> Iterator[int]:
        """The port here from which `ssh -N -L` leads to `port` on the server's side."""
        here = free_port()
        words = ["ssh", "-N", "-L", f"{here}:127.0.0.1:{port}", "-p", str(self.port), f"{USER}@127.0.0.1"]
        options = {
            "IdentityFile": self._place / "mine", "IdentitiesOnly": "yes", "BatchMode": "yes",
            "UserKnownHostsFile": self._place / "known_hosts", "ExitOnForwardFailure": "yes",
        }  # fmt: skip
        for name, value in options.items():
            words[1:1] = ["-o", f"{name}={value}"]
        process = subprocess.Popen([words[0], "-F", "none", *words[1:]], stderr=subprocess.PIPE, text=True)
        try:
            self._wait(here, process)
            yield here
        finally:
            process.terminate()
            process.communicate(timeout=120)

    @staticmethod
    def _wait(port: int, process: subprocess.Popen[str]) -> None:
        """Until somebody listens at `port`. RuntimeError where `process` ends before."""
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    raise RuntimeError(f"{process.args}: {process.communicate()[1]}") from None
                time.sleep(0.1)
