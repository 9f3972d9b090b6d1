"""Training one trial: `loop.Training`, its optimizer and its checkpoints. Needs neither Ray nor Optuna."""
