"""The built-in experiment: image data, networks and their training."""
