"""Measure error rates on simulated sweeps: `resnetlab calibrate`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("calibrate", "calibrate.py")

if __name__ == "__main__":
    run_app(app)
