"""What is asked of the PHLO API, and what came of it: values alone, no I/O."""
