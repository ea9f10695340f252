"""Runs one module's `work` in this process: `python -m benchmarks.harness.work`."""

import argparse
import importlib
import json
import os

from benchmarks.harness.machine import raise_file_limit


def main() -> None:
    """Run `work(**arguments)` of a question's module, and print its JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harness.work")
    parser.add_argument("module")
    parser.add_argument("arguments", type=json.loads)
    given = parser.parse_args()
    raise_file_limit()
    module = importlib.import_module(f"benchmarks.questions.{given.module}")
    print(json.dumps(module.work(**given.arguments)), flush=True)
    os._exit(0)  # pyreqwest's threads end some of the Pythons that come to an end


if __name__ == "__main__":
    main()
