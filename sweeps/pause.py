"""Let a running sweep pause: `resnetlab pause`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("pause", "pause.py")

if __name__ == "__main__":
    run_app(app)
