"""End a running sweep in order: `resnetlab stop`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("stop", "stop.py")

if __name__ == "__main__":
    run_app(app)
