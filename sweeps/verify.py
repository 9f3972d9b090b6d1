"""Check an archive that was made for reviewers: `resnetlab verify`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("verify", "verify.py")

if __name__ == "__main__":
    run_app(app)
