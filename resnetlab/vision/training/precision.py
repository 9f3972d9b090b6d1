"""What bf16 costs on this CPU. Where it lacks the instructions, bf16 is computed in software, at several times fp32's
cost."""

from __future__ import annotations

from time import process_time

import torch
from torch import nn
from torch.nn import functional as F

from resnetlab.vision.training import machine

SHAPE = (32, 8, 20, 20)  # images of the measured step: (B, C, H, W)
CHANNELS = 16
STEPS = 4  # of each kind, after one that does not count


def bf16_slowdown() -> float:
    """CPU time of a training step of a small convolutional network in bf16, over that in fp32; one thread.

    The least of STEPS each. Half a second, two where bf16 is slow.
    """
    cpu = torch.device("cpu")
    threads = torch.get_num_threads()
    with machine.seeded(0, cpu):
        model = _network().to(memory_format=torch.channels_last)
        images = torch.randn(SHAPE).to(memory_format=torch.channels_last)
    labels = torch.arange(len(images)) % CHANNELS
    torch.set_num_threads(1)
    try:
        took: dict[str, list[float]] = {"fp32": [], "bf16": []}
        for _ in range(STEPS + 1):
            for precision, seconds in took.items():
                began = process_time()
                with machine.autocast(precision, cpu):
                    logits = model(images)
                F.cross_entropy(logits.float(), labels).backward()
                seconds.append(process_time() - began)
    finally:
        torch.set_num_threads(threads)
    return min(took["bf16"][1:]) / min(took["fp32"][1:])


def _network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (SHAPE[1], CHANNELS):
        conv = nn.Conv2d(inputs, CHANNELS, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CHANNELS))
