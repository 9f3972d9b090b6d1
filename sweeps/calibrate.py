"""Measure error rates on simulated sweeps: `resnetlab calibrate`, from a checkout."""

from resnetlab.cli.main import run_app, script

app = script("calibrate", "calibrate.py")

if __name__ == "__main__":
    run_app(app)
