"""`python -m segtune` is the command line."""

import sys

from segtune.cli import main

sys.exit(main())
