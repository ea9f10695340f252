"""Batches: many actions in flat memory, each with exactly one outcome."""
