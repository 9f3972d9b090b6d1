"""The built-in learning rate schedules, one file each."""
