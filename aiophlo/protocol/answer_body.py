"""Reading an answer's body, which may not be longer than any answer can be."""

from collections.abc import Mapping

import aiohttp

LONGEST_BODY = 1 << 20  # bytes; an answer of this API has some hundred


class TooLongError(aiohttp.ClientPayloadError):
    """An answer is longer than any can be."""


async def read_body(content: aiohttp.StreamReader) -> bytes:
    """Return all of a body, in however many pieces it comes.

    Raises:
        TooLongError: It is longer than any answer can be.
    """
    first = await content.readany()
    room = LONGEST_BODY - len(first)
    if room >= 0 and content.at_eof():  # nearly always all there is
        return first
    blocks = [first]
    while room >= 0 and not content.at_eof():
        blocks.append(await content.readany())
        room -= len(blocks[-1])
    if room < 0:
        raise TooLongError(f"an answer of more than {LONGEST_BODY >> 20} MiB")
    return b"".join(blocks)


def says_how_long(headers: Mapping[str, str]) -> bool:
    """Say whether an answer's end is told, and not left to the connection's."""
    return "Content-Length" in headers or "Transfer-Encoding" in headers
