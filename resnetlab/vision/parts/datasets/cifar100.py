"""CIFAR-100 (Krizhevsky 2009), with fine or coarse labels: see `vision.data.cifar`."""

from __future__ import annotations

from resnetlab.builtin import Dataset
from resnetlab.vision.parts.datasets import cifar10
from resnetlab.vision.parts.shared_settings import Label


class Settings(cifar10.Settings):
    label: Label = None


PARTS = (Dataset("cifar100", cifar10.cifar, settings=Settings, places=("root", "download")),)
