"""cluster/local.sh starts nothing without a token, or with a Ray that has no tokens."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "cluster/local.sh"
RAY = """#!/bin/sh
[ "$1" = --version ] && { echo "ray, version ${VERSION:-2.60.0}"; exit; }
echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN_PATH $@" > "$HOME/started"
echo "Ray runtime started"
exec sleep 30
"""


@pytest.fixture
def launch(tmp_path):
    """Run the launcher with a stand-in for Ray that notes how it was started; (code, stdout, stderr)."""
    (tmp_path / "ray").write_text(RAY)
    (tmp_path / "ray").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def run(*words, **variables):
        own = {"HOME": str(tmp_path), "RAY": str(tmp_path / "ray")}
        done = subprocess.run(
            [SCRIPT, *words], env=kept | own | variables, capture_output=True, text=True, timeout=500, cwd=tmp_path
        )
        return done.returncode, done.stdout, done.stderr

    yield run
    run("stop")


def mode(path):
    return oct(path.stat().st_mode & 0o777)


def test_the_head_makes_a_token_that_only_its_owner_can_read(tmp_path, launch):
    code, out, err = launch("head")
    token = tmp_path / ".ray/auth_token"
    assert code == 0, err
    assert mode(token) == "0o600" and len(token.read_text()) == 64 and mode(token.parent) == "0o700"
    started = (tmp_path / "started").read_text()
    assert started.startswith(f"token {token} start ") and "--include-dashboard=false" in started
    assert token.read_text() not in started + out + err + next(tmp_path.rglob("ray.log")).read_text()
    assert launch("stop")[0] == 0
    before = token.read_text()
    launch("head", DASHBOARD="1")
    assert token.read_text() == before and "--dashboard-host=127.0.0.1" in (tmp_path / "started").read_text()


def test_a_token_that_others_could_read_is_closed_and_told(tmp_path, launch):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o644)
    code, out, _ = launch("join", "127.0.0.1:1", "--num-cpus=1", RAY_AUTH_TOKEN_PATH=str(token))
    assert code == 0 and mode(token) == "0o600" and "others could read" in out
    assert "--address=127.0.0.1:1 --num-cpus=1" in (tmp_path / "started").read_text()


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        (["head"], {"RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE=disabled: anyone who reaches this host"),
        (["head"], {"VERSION": "2.51.1"}, "Ray 2.51 knows no tokens"),
        (["head"], {"VERSION": "1.13.0"}, "Ray 1.13 knows no tokens"),
        (["head"], {"RAY": "/nowhere/ray"}, "/nowhere/ray: is no Ray"),
        (["head"], {"RAY_AUTH_TOKEN_PATH": "/proc/token"}, "/proc/token: no token can be written there"),
        (["head"], {"RAY_AUTH_TOKEN_PATH": "empty"}, "empty: holds no token"),
        (["join", "127.0.0.1:1"], {}, ".ray/auth_token: holds no token"),
        (["join"], {}, "join needs HOST:PORT"),
    ],
)
def test_nothing_is_started_without_a_token(tmp_path, launch, words, variables, said):
    (tmp_path / "empty").write_text("\n")
    code, _, err = launch(*words, **variables)
    assert code == 2 and said in err and err.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "started").exists()
