"""Training one trial: `loop.Training`, its optimizer and its checkpoints. Needs neither Ray nor Optuna."""

import os

# Read by MKL at its first product. Without it a product's last bits may change with where its result lies in memory.
os.environ.setdefault("MKL_CBWR", "AUTO")
