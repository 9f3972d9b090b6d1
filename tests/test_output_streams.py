"""Standard streams that close, fill up, hang up or lack a character: work continues, and lost output is reported."""

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import images_here
import pytest
from made_results import make_results
from test_watch import PROGRAM

from resnetlab import console

ROOT = Path(__file__).resolve().parents[1]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
MINUS = "−"
STUDY = """
dataset: {name: folder, root: images}
baseline: {blocks: 1, width: 8, downsample: 1, batch_size: 8}
arms: {a: {}, b: {kernel: 1}}
search: {epochs: 1}
confirm: {design: arms, seeds: 1}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the results `made`, the study s.yaml and its images."""
    place = tmp_path_factory.mktemp("streams")
    make_results(place / "made", faults=False)
    images_here.make(place / "images", seed=0, each=12)
    (place / "s.yaml").write_text(STUDY)
    return place


def shell(place: Path, words: str, after: str = "", **more: str) -> subprocess.CompletedProcess:
    """`sweeps/WORDS` with redirections `after` it, as a shell runs them; the exit code is the script's own."""
    script, *rest = shlex.split(words)
    command = shlex.join([sys.executable, str(ROOT / "sweeps" / script), *rest])
    env = os.environ | {"PYTHONPATH": str(ROOT), "RESNETLAB_CACHE": str(place / "cache")} | more
    line = f"{command} {after}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", line], cwd=place, env=env, capture_output=True, timeout=500)


DRY = "ablation.py --study s.yaml --dry-run"
CLOSED = [">&-", "2>&-", "<&-", ">&- 2>&- <&-"]


@pytest.mark.parametrize("words", ["status.py made", "status.py made --json", "ablation.py --help", DRY])
def test_a_reader_that_leaves_ends_a_short_command_quietly(place, words):
    done = shell(place, words, "| true")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(("words", "closed"), [*(("status.py made", closed) for closed in CLOSED), (DRY, CLOSED[-1])])
def test_a_closed_stream_ends_nothing(place, words, closed):
    done = shell(place, words, closed)
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) == (not closed.startswith(">"))


def test_an_error_keeps_its_code_where_stderr_is_closed_or_full(place):
    for closed in ("2>&-", "2>/dev/full", "2> >(true)"):
        assert shell(place, "status.py nowhere", closed).returncode == 2


@pytest.mark.parametrize("words", ["status.py made", "status.py made --json"])
def test_a_full_device_is_said_and_exits_with_1(place, words):
    done = shell(place, words, "> /dev/full")
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "error: standard output: No space left on device: what was printed is not complete\n"
    )


def test_files_do_not_take_the_number_of_a_closed_stream(place):
    """Else what is printed by compiled code would land in them."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from resnetlab import console\n"
        "with console.streams(), open(sys.argv[2], 'w') as file:\n"
        "    os.write(1, b'printed'); print('printed'); sys.exit(file.fileno() < 3)\n"
    )
    words = shlex.join([sys.executable, "-c", code, str(ROOT), str(place / "file")])
    assert subprocess.run(["bash", "-c", f"{words} >&- 2>&- <&-"]).returncode == 0
    assert (place / "file").read_bytes() == b""


def test_a_stream_of_a_locale_without_utf8_shows_what_it_can(place):
    plain, poor = shell(place, "status.py made"), shell(place, "status.py made", **ASCII)
    assert (poor.returncode, poor.stderr) == (0, b"")
    said = poor.stdout.decode("ascii")
    assert plain.stdout.decode().count(MINUS) >= 5 and "?" not in said
    effects = [line.split() for line in plain.stdout.decode().splitlines() if MINUS in line]
    assert all(
        " ".join(words).replace(MINUS, "-").replace("…", "...").replace("†", "+") in " ".join(said.split())
        for words in effects
    )


@pytest.mark.parametrize(
    ("words", "locale"),
    [
        ("ablation.py --settings", ASCII),
        ("ablation.py --settings", {"PYTHONIOENCODING": "ascii:strict"}),
        ("ablation.py --help", ASCII),
        (DRY, {"PYTHONIOENCODING": "latin-1"}),
    ],
)
def test_no_command_ends_at_a_character(place, words, locale):
    done = shell(place, words, **locale)
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout


def test_json_is_the_same_in_every_locale(place):
    plain, poor = shell(place, "status.py made --json"), shell(place, "status.py made --json", **ASCII)
    assert json.loads(plain.stdout) == json.loads(poor.stdout.decode("ascii"))
    assert "…" in json.loads(poor.stdout)["answer"]


def test_a_file_name_that_is_no_text_is_printed_as_it_is(place):
    done = shell(place, "status.py 'no\udcff'")
    assert done.returncode == 2 and b"no\xff: need a path that is UTF-8" in done.stderr
    done = shell(place, "status.py noé", **ASCII)
    assert done.returncode == 2 and "/noé: not a results folder" in done.stderr.decode()


def test_a_results_folder_with_an_accent_is_read_and_written_in_an_ascii_locale(place):
    make_results(place / "é b", faults=False)
    done = shell(place, "report.py 'é b'", **ASCII)
    assert (done.returncode, done.stderr, done.stdout.decode()) == (0, b"", f"{place}/é b/report.html\n")
    page = (place / "é b/report.html").read_text(encoding="utf-8")
    assert r"trial.py \u0027é b\u0027" in page.replace(r"\u00e9", "é")


def test_our_files_are_read_and_written_as_utf8_whatever_the_locale(place):
    for words in ("report.py made", DRY):
        script, *rest = words.split()
        command = [sys.executable, "-X", "warn_default_encoding", ROOT / "sweeps" / script, *rest]
        env = os.environ | {"PYTHONPATH": str(ROOT), "RESNETLAB_CACHE": str(place / "cache")}
        done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        ours = [line for line in done.stderr.splitlines() if "EncodingWarning" in line and f"{ROOT}/resnetlab" in line]
        assert not ours


def test_a_terminal_that_hangs_up_does_not_end_a_sweep(tmp_path):
    ours, theirs = pty.openpty()  # which has no columns, as it says
    begin = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\nfrom resnetlab import console\n"
    body = "".join(f"    {line}\n" for line in PROGRAM.strip().splitlines())
    program = (
        f"{begin}with console.streams():\n{body}    print('after')\n    open(sys.argv[1] + '/done', 'w').close()\n"
    )
    env = os.environ | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", program, str(tmp_path)]
    process = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while b"a word before" not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)
    assert process.wait(120) == 0 and (tmp_path / "done").exists()


def test_a_stream_that_would_block_is_waited_for():
    reader, number = os.pipe()
    os.set_blocking(number, False)
    words = "x" * 300_000
    child = subprocess.Popen(["wc", "-c"], stdin=reader, stdout=subprocess.PIPE)
    os.close(reader)
    stream = console.writer(number, "utf-8")
    stream.write(words)
    stream.flush()
    os.close(number)
    assert int(child.communicate()[0]) == len(words)


@pytest.mark.slow
def test_a_sweep_runs_to_its_end_when_its_readers_have_left(place):
    done = shell(place, "ablation.py --study s.yaml --storage left", "2> >(true) | head -1", **ASCII)
    assert done.returncode == 0 and done.stdout.startswith(b"data: splits: ") and done.stdout.count(b"\n") == 1
    assert (place / "left/s/report.html").stat().st_size > 10_000


def test_the_names_of_classes_are_the_same_in_every_locale(tmp_path):
    images_here.make(tmp_path / "images", seed=0, each=4)
    (tmp_path / "images/train/class-1").rename(tmp_path / "images/train/Käse")
    code = (
        "from pathlib import Path; from resnetlab.study import DataConfig; from resnetlab.vision.data import prepare\n"
        "found = prepare(DataConfig(name='folder', root='images'), Path('cache' + __import__('sys').argv[1]))\n"
        "print(found.hash, ascii(found.classes))\n"
    )
    said = set()
    for number, locale in enumerate([{}, ASCII]):
        env = os.environ | {"PYTHONPATH": str(ROOT)} | locale
        words = [sys.executable, "-c", code, str(number)]
        said.add(subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout)
    assert len(said) == 1 and r"K\xe4se" in said.pop()


def test_a_command_line_that_ray_cannot_take_is_refused_before_it_starts(place):
    done = shell(place, "ablation.py --study s.yaml --storage é", **ASCII)
    assert done.returncode == 2 and done.stderr.startswith("error: é: is not text in the locale".encode())
    assert not (place / "é").exists()
