"""Regenerate the report of a results folder, or one figure: `resnetlab report`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("report", "report.py")

if __name__ == "__main__":
    run_app(app)
