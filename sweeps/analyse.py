"""Compare runs that were made elsewhere: `resnetlab analyse`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("analyse", "analyse.py")

if __name__ == "__main__":
    run_app(app)
