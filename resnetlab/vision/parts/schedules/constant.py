"""The peak learning rate throughout."""

from resnetlab.builtin import Schedule


def constant(done: float) -> float:
    return 1.0


PARTS = (Schedule("constant", constant, depends_on_budget=False),)
