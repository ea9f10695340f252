"""`python -m aiophlo`: the command line, wherever it is installed."""

import sys

from aiophlo.cli import main

sys.exit(main())
