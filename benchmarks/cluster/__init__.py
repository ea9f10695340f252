"""Many processes on one account, which share a Postgres: does the promise hold?

`courses` sends actions, and `handovers` hands calls over. Of what is judged, `clicks`
begins handovers twice, `kills` kills their owners, and `stops` stops them: `worker` is
such a process, and `scenes` holds handovers in a phase. `soak` kills those that send,
and their database: `soak_worker` is such a process, and `told` what it leaves behind.
"""
