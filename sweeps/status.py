"""Show the progress and the conclusions of a sweep: `resnetlab status`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("status", "status.py")

if __name__ == "__main__":
    run_app(app)
