"""`aiophlo worker`, whose log is kept for the judge: it takes handovers over, too."""

import sys

from aiophlo_command import main
from benchmarks.day.records import keep_records

keep_records()
sys.exit(main())
