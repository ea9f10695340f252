"""Many processes on one account, which share a Postgres: does the promise hold?

`courses` sends actions, and `handovers` hands calls over.
"""
