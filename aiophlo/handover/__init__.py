"""A warm transfer from first ring to last hang-up.

`SessionPool.consult` makes one, so nothing here needs importing by name. Each
module imports only from those above it:

=============  ================================================================
`states`       what a handover may believe, and when: pure, drawn, no I/O
`tries`        who was tried, and what came of it
`table`        the open handovers in a journal's file
`plan`         what a handover is to do, checked
`alarm`        what is cried out when a customer may be alone
`care`         what a pool does for all of its handovers
`aborting`     asking again until an abort has proved something
`recovery`     bringing back what a crash has left open
`requests`     one request, which leaves only while it is right
`standing`     where one handover stands, and the wait for news of it
`returning`    ending a transfer: the customer comes back
`course`       one handover: it begins, does one thing after the other, and ends
`asking`       ringing one target after the other
`completing`   hanging the agent up, and seeing that the partner stays
`consult`      the face of it: `Consult`, and `Accept` for bots
=============  ================================================================

Nothing is imported here: a journal needs the table alone.
"""
