"""Which trial to explore next, and which to stop: Optuna samplers and schedulers."""
