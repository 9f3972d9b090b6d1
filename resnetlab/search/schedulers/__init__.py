"""Rules that stop trials early, a file each."""
