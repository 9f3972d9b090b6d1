"""Bad input ends quickly with one message and the right code, without a traceback or leftovers."""

import os
import subprocess
import sys

import pytest
from bad_inputs import CASES, SCRIPTS, Case, options, run, study
from doors import ROOT, Door, Ended, tree

LIMIT = 10.0  # seconds, as `doors` measures them; less than two on a machine with nothing else to do
BUSY = 3  # times that a case is run at most: caches and memory are shared with whatever else runs
AS_A_PERSON = [
    "duplicate key",
    "password in a storage URL",
    "data absent",
    "Parquet with zero bytes",
    "no published study",
]


@pytest.fixture(scope="module")
def doors():
    opened = {name: Door(name) for name in SCRIPTS}
    for door in opened.values():
        door.__enter__()
    yield opened
    for door in opened.values():
        door.__exit__()


def problems(case: Case, ended: Ended, clean: bool) -> list[str]:
    found = [f"lacks {word!r}" for word in case.words if word not in ended.err]
    found += [f"code {ended.code}, need {case.code}"] if ended.code != case.code else []
    found += ["a traceback"] if "Traceback" in ended.err or ended.err.count("error: ") != 1 else []
    found += ["says more than the error"] if not ended.err.startswith("error: ") or ended.out else []
    found += ["echoes a secret"] if case.never and case.never in ended.err + ended.out else []
    found += ["something was left behind"] if not clean or not ended.alone else []
    return found


@pytest.mark.parametrize("name", CASES)
def test_bad_inputs(name, doors, tmp_path):
    case, took = CASES[name], []
    while not took or (took[-1] > LIMIT and len(took) < BUSY):
        ended, clean = run(case, tmp_path / str(len(took)), doors[case.script])
        took.append(ended.seconds)
        assert not problems(case, ended, clean), ended
    assert took[-1] < LIMIT, took


@pytest.mark.parametrize("name", AS_A_PERSON)
def test_bad_inputs_as_a_person_gives_them(name, tmp_path):
    """The same through a shell's way: what the forked calls stand for."""
    case = CASES[name]
    (tmp_path / "home").mkdir()
    words = case.command(tmp_path)
    before = tree(tmp_path)
    command = [sys.executable, str(ROOT / "sweeps" / f"{case.script}.py"), *words]
    own = {
        "RESNETLAB_CACHE": str(tmp_path / "cache"),
        "HOME": str(tmp_path / "home"),
        "COLUMNS": "200",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=500, env=os.environ | own)
    ended = Ended(done.returncode, done.stdout, done.stderr, 0.0, True)
    assert not problems(case, ended, tree(tmp_path) == before), ended


def test_the_checks_find_what_is_wrong(doors, tmp_path):
    ended, clean = run(study("seed: 1", "dataset", "is missing"), tmp_path / "0", doors["ablation"])
    assert problems(study("seed: 1", "dataset", "is missing"), ended, clean) == []
    wrong = Case(3, ("nowhere",), lambda place: [], never="missing")
    assert problems(wrong, ended, clean=False) == [
        "lacks 'nowhere'",
        "code 2, need 3",
        "echoes a secret",
        "something was left behind",
    ]
    ended, _ = run(options(["--help"]), tmp_path / "1", doors["ablation"])
    assert ended.code == 0 and "says more than the error" in problems(options([]), ended, True)
    assert doors["ablation"].startup > 0.1


def test_a_call_that_leaves_files_or_processes_is_found_out(tmp_path):
    script = "import subprocess, time; subprocess.Popen(['sleep', '60']); open('left', 'w').close(); time.sleep(0.3)\n"
    (tmp_path / "leaves.py").write_text(f"if __name__ == '__main__':\n    {script}")
    with Door(os.path.relpath(tmp_path / "leaves", ROOT / "sweeps")) as door:
        ended, clean = run(options([]), tmp_path / "here", door)
    assert not ended.alone and not clean and 0.3 < ended.seconds < 50
