"""Export a results folder to Optuna, TensorBoard, MLflow or Weights & Biases: `resnetlab export`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("export", "export.py")

if __name__ == "__main__":
    run_app(app)
