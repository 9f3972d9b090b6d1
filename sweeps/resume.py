"""Let a paused sweep go on: `resnetlab resume`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("resume", "resume.py")

if __name__ == "__main__":
    run_app(app)
