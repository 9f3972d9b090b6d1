"""One root seed, a named stream for each purpose.

Adding a stream never moves another one: each seed is a hash of the root and the stream's name, not a draw from a
shared generator. `stream(7, "init")` and `stream(7, "order")` are independent; the same call gives the same seed on
every machine and Python version.
"""

from hashlib import blake2b

MAX_SEED = 2**63 - 1


def stream(root: int, *names: object) -> int:
    """A seed in [0, 2**63) for the purpose `names` under `root`, e.g. `stream(seed, "confirm", 3)`."""
    text = "/".join([str(root), *map(str, names)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") & MAX_SEED
