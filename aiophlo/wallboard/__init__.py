"""The wallboard: one page for the wall of a call centre, live and read-only.

`figures`
    What is counted of one account, in time slices. Pure.
`handovers`
    Open handovers, and customers on hold. Pure.
`troubles`
    What is wrong, in words, and what to do about it. Pure.
`merging`
    The snapshots of several processes as one. Pure.
`feed`
    One snapshot a second for all who watch.
`board`
    An observer that keeps all of this for one pool, and gives snapshots.
`access`
    Who may see it: loopback, or whoever has the token. Pure.
`site`
    What is answered to which request. Pure but for the page's files.
`servers`
    What carries requests here: aiohttp, and any ASGI server.
"""

from aiophlo.wallboard.board import Wallboard
from aiophlo.wallboard.servers import aiohttp_app, asgi_app

__all__ = ["Wallboard", "aiohttp_app", "asgi_app"]
