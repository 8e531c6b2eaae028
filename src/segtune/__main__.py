"""`python -m segtune` is the command line."""

import sys

from segtune.cli.main import main

sys.exit(main())
