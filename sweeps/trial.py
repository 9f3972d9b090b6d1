"""Rerun one recorded trial: `resnetlab trial`, from a checkout."""

from resnetlab.cli.main import run_app, script

app = script("trial", "trial.py")

if __name__ == "__main__":
    run_app(app)
