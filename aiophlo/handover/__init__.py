"""A warm transfer from first ring to last hang-up.

`SessionPool.consult` makes one, so nothing here needs importing by name. Each
module imports only from those above it:

============  =================================================================
`states`      what a handover may believe, and when: pure, drawn, no I/O
`tries`       who was tried, and what came of it
`table`       the open handovers in a journal's file
`plan`        what a handover is to do, checked
`care`        what a pool does for all of its handovers
`course`      one handover, from its beginning to its end
`recovery`    what a crash has left open is brought back
`consult`     the face of it: `Consult`, and `Accept` for bots
============  =================================================================

Nothing is imported here: a journal needs the table alone.
"""
