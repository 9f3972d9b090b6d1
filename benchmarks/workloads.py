"""Networks and images of the benchmarks, and a training loop as in tutorials: torchvision's transforms on PIL images, a
DataLoader with workers, `loss.item()` in every step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.data import Dataset
from resnetlab.vision.models import build
from resnetlab.vision.training import machine
from resnetlab.vision.training.optim import make_optimizer

NETS: dict[str, dict[str, Any]] = {
    "CNN, batch 32": {"model": "cnn", "width": 32, "batch_size": 32, "lr": 0.01},
    "3-block ResNet, batch 32": {"blocks": 3, "width": 64, "downsample": 2, "batch_size": 32},
    "ResNet-20, batch 128": {"blocks": 9, "width": 16, "downsample": 2, "batch_size": 128},
}
AUGMENT = {"crop": 4, "flip": True, "rotation": 15.0}
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def config(net: dict[str, Any], **changes: Any) -> TrialConfig:
    return TrialConfig(data={"name": "folder"}, **({"epochs": 100_000} | net | AUGMENT | changes))


def images(count: int, held: int = 2, classes: int = 10) -> Dataset:
    """A dataset of `count` training images of CIFAR's size, and very few validation and test images."""
    rng = np.random.default_rng(0)
    total = count + 2 * held
    pixels = rng.integers(0, 256, (total, 32, 32, 3), dtype=np.uint8)
    places = {"val": np.arange(count, count + held), "test": np.arange(count + held, total)}
    return Dataset.from_arrays(pixels, np.arange(total) % classes, [str(i) for i in range(classes)], places)


class Floor:
    """Forward, backward and optimizer step on one fixed batch: the lower bound of any training loop."""

    def __init__(self, config: TrialConfig, device: str = "cpu"):
        machine.prepare(1, config.precision, config.deterministic)
        self._config, self._device = config, torch.device(device)
        self.model = build(config, (32, 32, 3), 10).to(device, memory_format=torch.channels_last)
        self.optimizer = make_optimizer(config, self.model)
        inputs = torch.randn(config.batch_size, 3, 32, 32, device=device)
        self.inputs = inputs.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(10, (config.batch_size,), device=device)
        self.model.train()

    def steps(self, count: int) -> None:
        for _ in range(count):
            with machine.autocast(self._config.precision, self._device):
                logits = self.model(self.inputs)
            loss = F.cross_entropy(logits.float(), self.labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


class PilImages(torch.utils.data.Dataset):
    """(N, H, W, C) uint8 as torchvision's CIFAR10 hands them out: a PIL image through the transforms, each."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, transform: Any):
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        pixels = self.pixels[index]
        return self.transform(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)), int(
            self.labels[index]
        )


def transform(augment: bool = True, channels: int = 3) -> Any:
    from torchvision import transforms

    moves = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.RandomRotation(15)]
    mean, std = (MEAN, STD) if channels == 3 else ((0.5,), (0.5,))
    last = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    return transforms.Compose([*moves, *last] if augment else last)


def plain_loop(
    net: TrialConfig, data: Dataset, workers: int = 2, device: str = "cpu", like_torchvision: bool = False
) -> Iterator[int]:
    """The loop of the tutorials; yields images trained after every step.

    like_torchvision: with what torchvision's reference script adds to each step: top-1 and top-5 accuracy, read.
    """
    rows = data.split("train", 0)
    wrapped = PilImages(data.images[rows], data.labels[rows], transform())
    loader = torch.utils.data.DataLoader(
        wrapped, batch_size=net.batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0,
        pin_memory=device != "cpu",
    )  # fmt: skip
    model = build(net, data.shape, data.n_classes).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=net.lr, momentum=net.momentum or 0.0)
    criterion = nn.CrossEntropyLoss()
    running = 0.0
    while True:
        for inputs, labels in loader:
            inputs, labels = inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            running += loss.item()
            if like_torchvision:
                found = outputs.topk(5, 1).indices == labels[:, None]
                running += found[:, 0].float().sum().item() + found.float().sum().item()
            yield len(labels)
