"""How Plivo tells us something: events it posts, and whether they are Plivo's.

Each module imports only from those above it:

=============  =========================================================
`form_fields`  a form's fields, of whichever web framework
`events`       typed events, made of the fields
`signature`    whether a request is Plivo's, and no replay
`receiver`     one request: checked, parsed, passed on, answered; no I/O
`servers`      handlers for aiohttp.web and ASGI, and WSGI's URLs
=============  =========================================================
"""

from aiophlo.webhooks.events import (
    BaseEvent,
    Event,
    MemberJoined,
    MemberLeft,
    RecordingReady,
    Redirected,
    UnknownEvent,
    parse_event,
)
from aiophlo.webhooks.receiver import Headers, Receiver
from aiophlo.webhooks.servers import aiohttp_handler, asgi_app, asgi_url, wsgi_url
from aiophlo.webhooks.signature import NonceCache, sign, verify_signature

__all__ = [
    "BaseEvent",
    "Event",
    "Headers",
    "MemberJoined",
    "MemberLeft",
    "NonceCache",
    "Receiver",
    "RecordingReady",
    "Redirected",
    "UnknownEvent",
    "aiohttp_handler",
    "asgi_app",
    "asgi_url",
    "parse_event",
    "sign",
    "verify_signature",
    "wsgi_url",
]
