"""`python -m resnetlab`: the command `resnetlab`."""

from resnetlab.cli.main import main

if __name__ == "__main__":
    main()
