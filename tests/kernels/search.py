"""Search for convolutions that oneDNN gets wrong: crashes, and gradients that are not those of float64.

    python tests/kernels/search.py [--quick]

Runs every case of `steps.py` under every instruction set that this CPU has, and without oneDNN, with one thread and
then with two. Many cases share a process until one dies; then the one that was running is tried alone, is noted, and
the rest goes on in another process. The results of a kind of CPU, such as `results-avx2.json` beside this file, are
written as they come, and the search goes on where it stopped; remove the file to search again, e.g. with another
version of torch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
AT_ONCE = 100  # cases to a process
LIMIT = 1800.0  # seconds that they may take, and that one alone may take
PLAIN = 2.0  # times the error of the same step without oneDNN, which is rounding where bf16 is rounded often
ALONE = 3  # times that a case which was running when the process died is tried alone

sys.path[:0] = [str(ROOT), str(HERE)]


def instruction_sets() -> list[str]:
    """Those of ONEDNN_MAX_CPU_ISA that this CPU has, lowest first, and `none` for torch without oneDNN."""
    return ["SSE41", "AVX2", *(["AVX512_CORE"] if has_avx512() else []), "none"]


def has_avx512() -> bool:
    import torch

    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def environment(isa: str) -> dict[str, str]:
    """Of a process that computes with this instruction set."""
    chosen = {"NO_ONEDNN": "1"} if isa == "none" else {"ONEDNN_MAX_CPU_ISA": isa}
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **chosen, "PYTHONPATH": paths, "OMP_WAIT_POLICY": "PASSIVE"}


def steps(cases: list[dict[str, Any]], isa: str, threads: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each case with what came of it, as long as the process lives. Where it does not, the last one has `died`; where
    it was ended after LIMIT seconds, `late`."""
    command = [sys.executable, str(HERE / "steps.py"), str(threads)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(isa),
    ) as process:
        try:
            out, err = process.communicate(json.dumps(cases), timeout=LIMIT)
            late = False
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            late = True
    running = None
    for line in out.splitlines():
        found = json.loads(line)
        if "begin" in found:
            running = found["begin"]
        else:
            running = None
            yield found.pop("case"), found
    if late:
        yield running or cases[-1], {"late": LIMIT}
    elif process.returncode:
        last = (err.strip().splitlines() or [""])[-1]
        yield running or cases[-1], {"died": died(process.returncode), "said": last}


def died(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit {code}"


def search(cases: list[dict[str, Any]], isa: str, threads: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every case with what came of it, in as many processes as it takes."""
    left = list(cases)
    while left:
        batch = left[:AT_ONCE]
        done = 0
        for case, found in steps(batch, isa, threads):
            if "late" in found and done:
                break  # it may be that only the cases before it were slow: it begins the next process
            done += 1
            if "died" in found:
                alone = [other for _ in range(ALONE) for _, other in steps([case], isa, threads)]
                found["alone"] = sum("died" in other for other in alone)  # of ALONE; 0: an earlier case may be at fault
            yield case, found
        left = left[max(done, 1) :]


def name(case: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in case.items()).replace(", ", ",")


def main() -> None:
    from steps import allowed, convolutions, networks, optimizers

    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--quick", action="store_true", help="every tenth case; nothing is written")
    options.add_argument(
        "--elsewhere", action="store_true", help="only the convolutions that are known to be wrong; nothing is written"
    )
    options.add_argument("--only", choices=instruction_sets(), help="one instruction set; default: all of this CPU")
    chosen = options.parse_args()
    import torch

    results = HERE / f"results-{torch.backends.cpu.get_cpu_capability().lower()}.json"
    cases = [*networks(), *optimizers(), *convolutions(chosen.elsewhere)]
    if chosen.quick:
        cases = list(islice(cases, 0, None, 10))
    head = {"torch": torch.__version__, "machine": platform.machine(), "cpu": torch.backends.cpu.get_cpu_capability()}
    table: dict[str, Any] = {"versions": head, "cases": {}}
    if results.exists() and not chosen.quick and not chosen.elsewhere:
        table = json.loads(results.read_text())
        if table["versions"] != head:
            sys.exit(f"{results} is of {table['versions']}, this is {head}: remove it to search again")
    bad = 0
    for threads in (1, 2):
        for isa in [chosen.only] if chosen.only else instruction_sets():
            setting = f"{isa} {threads}"
            left = [case for case in cases if setting not in table["cases"].get(name(case), {})]
            for number, (case, found) in enumerate(search(left, isa, threads)):
                wrong = "error" not in found or found["error"] > max(allowed(case), PLAIN * found.get("plain", 0.0))
                told = found if wrong else float(f"{found['error']:.2g}")
                table["cases"].setdefault(name(case), {})[setting] = told
                if wrong:
                    bad += 1
                    print(f"{setting} thread(s): {name(case)}: {found}", flush=True)
                if not chosen.quick and not chosen.elsewhere and number % 50 == 0:
                    write(table, results)
            print(f"{setting} thread(s): {len(left)} cases done", flush=True)
            if not chosen.quick and not chosen.elsewhere:
                write(table, results)
    sys.exit(bad > 0)


def write(table: dict[str, Any], results: Path) -> None:
    """One case a line: what each setting's largest relative difference was, or what happened instead."""
    lines = [f"  {json.dumps(case)}: {json.dumps(found)}" for case, found in table["cases"].items()]
    text = f'{{"versions": {json.dumps(table["versions"])},\n "cases": {{\n' + ",\n".join(lines) + "\n}}\n"
    aside = results.with_suffix(".new")
    aside.write_text(text)
    aside.replace(results)


if __name__ == "__main__":
    main()
