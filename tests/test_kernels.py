"""Gradients of every built-in network against those of float64, under every instruction set that oneDNN has here.

Each instruction set has a process of its own, which a wrong kernel may end by a signal: then the test names the case.
`tests/kernels/search.py` looks at many more cases, and at torch's convolutions as such.
"""

import sys
from pathlib import Path

import pytest

KERNELS = str(Path(__file__).resolve().parent / "kernels")
sys.path.insert(0, KERNELS)
try:
    import search
    import steps
finally:
    sys.path.remove(KERNELS)

WIDTHS = (1, 4, 6, 7)


def cases():
    """Narrow networks of each kind, the wide ones once, and each optimizer in each precision."""
    narrow = [case for case in steps.networks(WIDTHS) if case.get("kernel") != 5]
    return [*narrow, *(case for case in steps.optimizers((4,)) if case["model"] == "resnet")]


def failures(found):
    """In words, of what `search.steps` gave."""
    wrong = []
    for case, outcome in found:
        if "died" in outcome:
            wrong.append(f"{search.name(case)}: the process died of {outcome['died']} ({outcome['said']})")
        elif outcome["error"] > steps.ALLOWED[case.get("precision", "fp32")]:
            wrong.append(f"{search.name(case)}: {outcome['where']} is off by {outcome['error']:.2g}")
    return wrong


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", [isa for isa in search.instruction_sets() if isa != "none"])
def test_gradients_of_every_network_are_those_of_float64(isa, threads):
    asked = cases()
    found = list(search.steps(asked, isa, threads))
    assert not failures(found) and len(found) == len(asked)
