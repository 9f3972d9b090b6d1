"""Rerun a published study and compare its results with the published ones: `resnetlab reproduce`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("reproduce", "reproduce.py")

if __name__ == "__main__":
    run_app(app)
