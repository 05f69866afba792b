"""`python -m datagen` and the console script: run a command, print a failure on one screen."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code.

    0 done, 2 workspace, 3 service, 4 data, 130 interrupted, 1 a bug of ours.
    """
    from datagen.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
