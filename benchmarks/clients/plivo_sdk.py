"""plivo-python in threads: Plivo's own client, which blocks."""

import os
import threading
import warnings
from typing import Any

from benchmarks.harness.load import (
    AGENT,
    AUTH_ID,
    AUTH_TOKEN,
    NODE_ID,
    PHLO_ID,
    Load,
    target,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own, on newer Pythons
    import plivo  # type: ignore[import-untyped]


class _Clients(threading.local):
    """A client per thread: its session isn't made to be shared."""

    base_url = ""

    def __init__(self) -> None:
        self._client: Any = None
        self._node: Any = None

    @property
    def client(self) -> Any:  # noqa: ANN401 -- plivo has no types
        if self._client is None:
            self._client = plivo.phlo.RestClient(AUTH_ID, AUTH_TOKEN)
            self._client.phlo_base_uri = self.base_url
            # It sends by a way on which requests doesn't look there itself.
            self._client.session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        return self._client

    @property
    def node(self) -> Any:  # noqa: ANN401 -- plivo has no types
        if self._node is None:
            self._node = self.client.phlo.get(PHLO_ID).multi_party_call(NODE_ID)
        return self._node


async def documented(base_url: str, load: Load) -> None:
    """Send as Plivo's documentation shows: GET PHLO, GET node, POST."""
    clients = _clients(base_url)

    def send(number: int) -> None:
        node = clients.client.phlo.get(PHLO_ID).multi_party_call(NODE_ID)
        _transfer(node, number)

    load.by_threads(send)


async def post_only(base_url: str, load: Load) -> None:
    """Send with the node's handle kept: one POST each."""
    clients = _clients(base_url)
    load.by_threads(lambda number: _transfer(clients.node, number))


def _clients(base_url: str) -> _Clients:
    _Clients.base_url = base_url
    return _Clients()


def _transfer(node: Any, number: int) -> None:  # noqa: ANN401 -- plivo has no types
    answer = node.warm_transfer(trigger_source=AGENT, to=target(number), role="agent")
    if answer.error:
        raise RuntimeError(answer.error)
