"""The private names of torch that this package uses, each with its reason. tests/test_compat.py fails where one moves.

`__dynamo_disable`, an attribute of the undecorated methods of `torch.optim.Optimizer`
    What: torch wraps these methods so that torch.compile does not look into them. At the first call the wrapper imports
    the whole compiler, to make the function that it then keeps under this name.
    Why: only networks are compiled here, and every process that trains would import the compiler for nothing. Where
    the name is set, the wrapper uses what it finds.
    Since: torch 2.4 (https://github.com/pytorch/pytorch/pull/127325). No public switch: TORCHDYNAMO_DISABLE imports it
    too. https://github.com/pytorch/pytorch/pull/162595 is the same complaint for torch's own tests.
    Without it: the same numbers, later, in more memory.
"""

from __future__ import annotations

import torch


def spare_the_compiler() -> None:
    """Keep optimizers from importing torch's compiler."""
    for method in vars(torch.optim.Optimizer).values():
        if hasattr(method, "__wrapped__"):
            vars(method.__wrapped__).setdefault("__dynamo_disable", method.__wrapped__)
