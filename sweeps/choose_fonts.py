"""Link one font from each of many families into a folder: `resnetlab fonts`, from a checkout."""

from resnetlab.cli.main import run_app, script

app = script("fonts", "choose_fonts.py")

if __name__ == "__main__":
    run_app(app)
