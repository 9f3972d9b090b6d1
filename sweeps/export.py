"""Export a results folder to Optuna, TensorBoard, MLflow or Weights & Biases: `resnetlab export`, from a checkout."""

from resnetlab.cli.main import run_app, script

app = script("export", "export.py")

if __name__ == "__main__":
    run_app(app)
