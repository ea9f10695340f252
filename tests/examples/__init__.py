"""Examples, each short enough to read at once; `test_examples` runs them."""
