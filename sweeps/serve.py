"""Show the studies of a folder in a browser: `resnetlab serve`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("serve", "serve.py")

if __name__ == "__main__":
    run_app(app)
