"""Compare the results folders of one study, and pool their effects: `resnetlab compare`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("compare", "compare.py")

if __name__ == "__main__":
    run_app(app)
