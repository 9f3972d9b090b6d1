"""resnetlab: ablation sweeps whose conclusions hold."""

__version__ = "0.1.0"
