"""What a model costs: parameters and multiply-adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from resnetlab.study.records import ModelFacts
from resnetlab.study.trial_config import TrialConfig


def facts(model: nn.Module, config: TrialConfig, shape: tuple[int, int, int]) -> ModelFacts:
    """Parameters, those trained, and the multiply-adds of one image of `shape` (H, W, C)."""
    parameters = list(model.parameters())
    return ModelFacts(
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        multiply_adds=counted(model, shape) if config.own_model else multiply_adds(model, shape),
    )


@dataclass(frozen=True)
class KerasCount:
    """Parameters as Keras's summary would count a network whose convolutions all have biases, as its ResNets do."""

    total: int
    trainable: int
    biases: int  # that our convolutions lack
    statistics: int  # running means and variances of batch norm, which Keras counts as parameters not trained

    @property
    def reason(self) -> str:
        ours = self.total - self.biases - self.statistics
        return (
            f"{self.total:,} in Keras, {ours:,} here: Keras's ResNets give every convolution a bias, which the batch "
            f"norm behind it makes superfluous ({self.biases:,}), and its summary counts batch norm's running means "
            f"and variances as parameters that are not trained ({self.statistics:,})"
        )


def keras_count(model: nn.Module) -> KerasCount:
    """Study 003 prints 26,215,818 and 26,162,698 for its ResNet-50; torchvision's network has 26,136,138."""
    modules = list(model.modules())
    biases = sum(m.out_channels for m in modules if isinstance(m, nn.Conv2d) and m.bias is None)
    statistics = sum(2 * m.num_features for m in modules if isinstance(m, nn.BatchNorm2d))
    trainable = sum(p.numel() for p in model.parameters()) + biases
    return KerasCount(trainable + statistics, trainable, biases, statistics)


def counted(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """The multiply-adds of one image in any network, as torch counts them: of products of matrices and convolutions,
    attention included."""
    from torch.utils.flop_counter import FlopCounterMode  # imports triton, which the built-in networks need not

    height, width, channels = shape
    training, device = model.training, next(model.parameters()).device
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.eval()(torch.zeros(1, channels, height, width, device=device))
    finally:
        model.train(training)
    return int(counter.get_total_flops()) // 2


def multiply_adds(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Of the convolutions and linear layers in one forward pass of one image, biases not counted.

    Counted by hooks on a forward pass where the model is; on the meta device nothing is computed.
    """
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        else:
            total += output.numel() * cast(Tensor, module.weight)[0].numel()

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [module.register_forward_hook(count) for module in layers]
    training = model.training
    height, width, channels = shape
    try:
        model.eval()
        with torch.inference_mode():
            model(torch.zeros(1, channels, height, width, device=next(model.parameters()).device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return total
