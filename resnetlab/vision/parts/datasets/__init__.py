"""The built-in datasets, one file each."""
