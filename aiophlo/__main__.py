"""`python -m aiophlo`: the command line, wherever it is installed."""

import sys

from aiophlo_command import main

sys.exit(main())
