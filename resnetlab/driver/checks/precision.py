"""Check that bf16 is not computed in slow software on this machine, before a run and in a dry run."""

from __future__ import annotations

from resnetlab.errors import BadRequest
from resnetlab.study import Study

SLOW = 2.0  # times the CPU time of fp32, from which on bf16 is taken to be computed in software


def check(study: Study) -> str:
    """Measure what bf16 costs on this machine; returns a line for a dry run, empty if the study does not use bf16 on a
    CPU.

    Raises BadRequest if it takes more than SLOW times the time of fp32 and `resources.allow_slow_bf16` is not set, and
    for tf32 on a CPU.
    """
    if study.precision == "tf32" and not study.resources.on_gpu:
        raise BadRequest("precision: tf32 needs a GPU, and trials train on the CPU here (allowed: fp32, bf16)")
    if study.precision != "bf16" or study.resources.on_gpu:
        return ""
    from resnetlab.vision.training.precision import bf16_slowdown

    times = bf16_slowdown()
    line = f"precision: bf16 takes {times:.1f} times the CPU time of fp32 on this machine"
    if times <= SLOW:
        return line
    line += ", whose CPU lacks the instructions for it"
    if study.resources.allow_slow_bf16:
        return line
    raise BadRequest(
        f"{line} (allowed: precision: fp32, a GPU, or resources.allow_slow_bf16: true if you want it nevertheless, "
        "or if the trials run on other machines)"
    )
