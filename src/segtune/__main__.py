"""`python -m segtune` is the command line."""

import os
import sys


def run() -> int:
    """Run the command line, without libraries of the working folder.

    `python -m` looks there first: a file such as tenacity.py is data, which may be a stranger's.
    """
    if sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
        del sys.path[0]
    from segtune.cli.main import main

    return main()


sys.exit(run())
