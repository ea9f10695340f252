"""Runs one module's `work` in this process: `python -m benchmarks.work`."""

import argparse
import importlib
import json

from benchmarks.machine import raise_file_limit


def main() -> None:
    """Run `work(**arguments)` of a module of this package, and print its JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.work")
    parser.add_argument("module")
    parser.add_argument("arguments", type=json.loads)
    given = parser.parse_args()
    raise_file_limit()
    module = importlib.import_module(f"benchmarks.{given.module}")
    print(json.dumps(module.work(**given.arguments)))


if __name__ == "__main__":
    main()
