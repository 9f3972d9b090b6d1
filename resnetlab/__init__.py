"""resnetlab: ablation studies with conclusions you can check."""

__version__ = "0.1.0"
