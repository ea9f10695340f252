"""The service of the page about workers, whose log is kept for the judge."""

import importlib

from benchmarks.day.records import keep_records

keep_records()
app = importlib.import_module("cc").app
