"""A call centre's day in some minutes, and the judge of everything that it promises.

What happens and when is `timetable.TIMETABLE`; what an agent does all day is
`agents.Agent`; what counts as wrong is `judge.judge`; the page is drawn by `page`.
"""
