"""The built-in augmentations, one file each."""
