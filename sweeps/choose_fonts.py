"""Link one font from each of many families into a folder: `resnetlab fonts`, from a checkout."""

from resnetlab.cli.exit_codes import run_app
from resnetlab.cli.main import script

app = script("fonts", "choose_fonts.py")

if __name__ == "__main__":
    run_app(app)
