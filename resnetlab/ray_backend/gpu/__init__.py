"""Measure how many trials should share a GPU, for `--gpus-per-trial auto`."""
