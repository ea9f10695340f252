"""A million faulted actions, each outcome held against the simulator's ledger."""
