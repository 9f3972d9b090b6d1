"""Whether a study's precision is worth its time on this machine: asked before a run, and by its dry run."""

from __future__ import annotations

from resnetlab.errors import BadRequest
from resnetlab.study import Study

SLOW = 2.0  # times fp32's CPU time: beyond it bf16 is computed in software, or may as well be


def check(study: Study) -> str:
    """What bf16 costs here, measured, as a line for a dry run; empty where the study does not compute bf16 on a CPU.

    Raises BadRequest where it takes more than SLOW times the time of fp32 and `resources.allow_slow_bf16` is not set.
    """
    if study.precision != "bf16" or study.resources.gpus:
        return ""
    from resnetlab.vision.training.precision import bf16_slowdown

    times = bf16_slowdown()
    said = f"precision: bf16 takes {times:.1f} times the CPU time of fp32 on this machine"
    if times <= SLOW:
        return said
    said += ", whose CPU lacks the instructions for it"
    if study.resources.allow_slow_bf16:
        return said
    raise BadRequest(
        f"{said} (allowed: precision: fp32, a GPU, or resources.allow_slow_bf16: true if you want it nevertheless, "
        "or if the trials run on other machines)"
    )
