"""`python -m edgekit`: the console script, for launchers that start a module."""

import sys

from edgekit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
