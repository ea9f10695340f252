"""A live call from first ring to last hang-up.

`SessionPool.consult` makes one, so nothing here needs importing by name. Each
module imports only from those above it:

================  =============================================================
`conversations`   who is in which conversation, in bounded memory
`watch`           whom a handover is about, and what events tell of them
`event_reading`   what an event tells of a call
`late_news`       what comes late about handovers that have ended
`event_router`    routes each event to the open handover that it is about
`whereabouts`     where a customer is, for a process that knows the agent alone
`states`          the state machine: pure, drawn, no I/O
`sighted_hangup`  looking whether the phone of a transfer in doubt was hung up
`options`         the options of a handover, checked
`alarm`           the CRITICAL record when a customer may be alone
`registry`        the open handovers of a pool, and who is engaged
`requests`        one request, rechecked when it leaves
`aborting`        repeating an abort until its answer proves something
`recovery`        bringing back the customers that a crash has left on hold
`adoption`        the journals of dead processes, and recovery from them
`status`          the status of one handover, and the wait for its next change
`hanging_up`      hanging the agent up, to complete it or to prove that they left
`bringing_back`   bringing the customer back
`lifecycle`       one handover: it begins, runs one operation at a time, and ends
`ringing`         ringing one target after the other, for `ring_for` each
`completing`      hanging the agent up, and seeing that the partner stays
`consult`         the face of it: `Consult`, and `Accept` for bots
================  =============================================================

Nothing is imported here: a journal needs none of it.
"""
