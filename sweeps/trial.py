"""Rerun one recorded trial: `resnetlab trial`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("trial", "trial.py")

if __name__ == "__main__":
    run_app(app)
