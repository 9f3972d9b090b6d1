"""torchvision's ResNet-18, -34 and -50 with the head replaced, and images enlarged on the device."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.errors import BadRequest
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.architecture import LIBRARY_HIDDEN
from resnetlab.vision.models.blocks import Staged, head

LAYERS = ("layer1", "layer2", "layer3", "layer4")
STEM = ("conv1", "bn1", "relu", "maxpool")


def imagenet_resnet(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> Staged:
    """Five stages: the stem with its pooling (and the enlargement before it), then torchvision's four layers.

    Average pooling and a new head: one linear layer (studies 001 and 002), or 1024, 512 and the classes with ReLU
    between (003). Grey images become three equal channels. Raises BadRequest for other numbers of channels, and where
    `input_size` would shrink the images.
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise BadRequest(f"model={config.model} takes images of 1 or 3 channels, these have {channels}")
    if config.input_size is not None and config.input_size < max(height, width):
        raise BadRequest(
            f"input_size={config.input_size} is less than the images' {height}x{width} (allowed: "
            f"{max(height, width)} or more)"
        )
    from torchvision import models  # takes a second to import, and only these networks need it

    net = getattr(models, config.model)(weights=None)
    stem: OrderedDict[str, nn.Module] = OrderedDict(input=Input(config.input_size, config.resize))
    stem.update((name, getattr(net, name)) for name in STEM)
    stages = [nn.Sequential(stem), *(getattr(net, name) for name in LAYERS)]
    hidden = LIBRARY_HIDDEN[len(LIBRARY_HIDDEN) + 1 - config.head_depth :]
    top = head(net.fc.in_features, hidden, classes, nn.AdaptiveAvgPool2d(1), config.dropout)
    return Staged(stages, top, config.frozen)


class Input(nn.Module):
    """(B, 1 or 3, H, W) -> (B, 3, size, size), enlarged without a copy of the data set anywhere.

    nearest with a size that is a multiple repeats each pixel, as Keras's UpSampling2D does; bilinear is torch's
    with align_corners=False, as in torchvision's Resize.
    """

    def __init__(self, size: int | None, mode: str | None):
        super().__init__()
        self.size = size
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        return x if self.size is None else F.interpolate(x, (self.size, self.size), mode=str(self.mode))


def ours(key: str) -> str | None:
    """The key in our networks of torchvision's `key`; None for the old head, which is not taken over."""
    name, _, rest = key.partition(".")
    if name in LAYERS:
        return f"stages.{LAYERS.index(name) + 1}.{rest}"
    if name in STEM:
        return f"stages.0.{key}"
    return None if name == "fc" else key
