"""A trial's state as bytes that can be trusted: checked by a hash, read without running code.

Format: `MAGIC` (with the version), the SHA-256 of the rest (32 bytes), then what torch.save wrote. The hash finds
damage, not forgery: a file made on purpose still meets torch's weights-only reader, which builds tensors, containers
and numbers and nothing else.
"""

from __future__ import annotations

import io
from hashlib import sha256
from typing import Any

import torch

from resnetlab.errors import BadData
from resnetlab.vision.models.pretrained import compressed

NAME, VERSION = b"resnetlab checkpoint ", b"1"
MAGIC = NAME + VERSION + b"\n"
DIGEST = sha256().digest_size


class CheckpointDamaged(BadData):
    """The bytes are not a checkpoint of ours, or no longer are."""


def save(state: dict[str, Any]) -> bytes:
    """state: tensors, dicts, lists, tuples, strings and plain Python numbers (numpy's are refused by `load`)."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getbuffer()
    return b"".join([MAGIC, sha256(body).digest(), body])


def load(raw: bytes) -> dict[str, Any]:
    """What `save` was given, tensors on the CPU. Raises CheckpointDamaged."""
    if not raw.startswith(MAGIC):
        if raw.startswith(NAME):
            version = raw[len(NAME) : len(NAME) + 16].split(b"\n")[0].decode("ascii", "replace")
            raise CheckpointDamaged(f"checkpoint has version {version!r} (this program reads {VERSION.decode()})")
        raise CheckpointDamaged(f"not a checkpoint of resnetlab ({len(raw)} bytes)")
    body = memoryview(raw)[len(MAGIC) + DIGEST :]
    if raw[len(MAGIC) : len(MAGIC) + DIGEST] != sha256(body).digest():
        raise CheckpointDamaged(f"checkpoint is damaged: its {len(raw)} bytes do not match their hash")
    if member := compressed(io.BytesIO(body)):
        raise CheckpointDamaged(f"checkpoint refused: {member} is compressed, and none of ours is")
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers raise whatever the bytes led them to
        raise CheckpointDamaged(f"checkpoint cannot be read ({type(error).__name__})") from None
    if not isinstance(state, dict):
        raise CheckpointDamaged(f"checkpoint holds a {type(state).__name__}, not a state")
    return state
