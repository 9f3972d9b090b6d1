"""Regenerate the report of a results folder, or one figure: `resnetlab report`, from a checkout."""

from resnetlab.cli.main import run_app, script

app = script("report", "report.py")

if __name__ == "__main__":
    run_app(app)
