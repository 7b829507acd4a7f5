"""`python -m diablo VERB`: the same as the `diablo` command."""

import sys

from diablo.cli import main

sys.exit(main())
