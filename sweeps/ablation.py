"""Run an ablation study, or continue it: `resnetlab sweep`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("sweep", "ablation.py")

if __name__ == "__main__":
    run_app(app)
