"""Posts a node's events to a URL: in order, late or twice, as configured."""

import asyncio
import collections
import secrets
from collections.abc import Callable, Mapping
from typing import Final, Literal

import aiohttp
import attrs

from aiophlo.simulator.call import Call, Member
from aiophlo.simulator.ledger import Post
from aiophlo.simulator.random_faults import draw
from aiophlo.simulator.signing import sign_v3

OUR_NUMBER: Final = "+14155550100"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)


@attrs.frozen(kw_only=True)
class Callback:
    """Where a node's events go, and how.

    Attributes:
        url: Where they are posted.
        body: As a form or as JSON.
        signed: Whether they bear the account's signature, version 3.
        delay: Seconds from the event to its post.
        late: Chance of a post that comes later than that, so that others overtake it.
        late_by: Seconds by which it does.
        twice: Chance of a post that is made twice.
    """

    url: str
    body: Literal["form", "json"] = "form"
    signed: bool = True
    delay: float = 0.0
    late: float = 0.0
    late_by: float = 0.05
    twice: float = 0.0


def event_fields(call: Call, member: Member, event: str) -> dict[str, str]:
    """Give what the node tells of an event.

    Source:
        Plivo docs, "Multi-Party Call", variables of the node. Assumed: their spelling
        on the wire, and that a dialled member is `to`, a caller `from`.
    """
    sender, receiver = member.address, OUR_NUMBER
    if member.dialled:
        sender, receiver = receiver, sender
    return {
        "event": event,
        "from": sender,
        "to": receiver,
        "direction": "outbound" if member.dialled else "inbound",
        "caller_name": sender,
        "bill_rate": "0.0085",
        "call_status": "in-progress",
        "call_uuid": member.call_uuid,
        "conference_name": call.node_id,
        "conference_uuid": call.conference_uuid,
        "member_id": str(list(call.members).index(member.address) + 1),
        "from_country": "US",
        "from_iso2": "US",
        "to_country": "US",
        "to_iso2": "US",
    }


class EventPoster:
    """Posts events, each call's in order unless told otherwise.

    Args:
        tokens: Gives the secrets to sign for an account: its own, its main account's.
        seed: Seed of what comes late or twice.
        posts: Where each post is entered once its outcome is known.
        changed: Called when something has been posted.

    Attributes:
        callback: Where to, or None for nowhere.
    """

    def __init__(
        self,
        *,
        tokens: Callable[[str], tuple[str, str]],
        seed: int,
        posts: list[Post],
        changed: Callable[[], None],
    ) -> None:
        self.callback: Callback | None = None
        self._posts = posts
        self._tokens = tokens
        self._seed = seed
        self._changed = changed
        self._told: collections.Counter[tuple[str, str]] = collections.Counter()
        self._last: dict[Call, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def tell(self, call: Call, member: Member, event: str) -> None:
        """Post an event, soon."""
        if self.callback is None:
            return
        about = (event, member.address)
        self._told[about] += 1
        chance = (self._seed, *about, self._told[about])
        fields = event_fields(call, member, event)
        late = draw("late", *chance) < self.callback.late
        times = 2 if draw("twice", *chance) < self.callback.twice else 1
        for _ in range(times):
            self._dispatch(self.callback, call, fields, late=late)

    def _dispatch(
        self, callback: Callback, call: Call, fields: dict[str, str], *, late: bool
    ) -> None:
        before = None if late else self._last.get(call)
        delay = callback.delay + (callback.late_by if late else 0.0)
        task = asyncio.get_running_loop().create_task(
            self._post_after(before, delay, callback, call.account, fields)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if not late:
            self._last[call] = task
            task.add_done_callback(lambda _: self._forget(call, task))

    def _forget(self, call: Call, task: asyncio.Task[None]) -> None:
        if self._last.get(call) is task:
            del self._last[call]

    async def _post_after(
        self,
        before: asyncio.Task[None] | None,
        delay: float,
        callback: Callback,
        account: str,
        fields: dict[str, str],
    ) -> None:
        await asyncio.sleep(delay)
        if before:
            await asyncio.wait({before})
        post = Post(fields)
        try:
            post.status = await self._post(callback, account, fields)
        except (aiohttp.ClientError, TimeoutError) as error:
            post.error = type(error).__name__
        self._posts.append(post)
        self._changed()

    async def _post(
        self, callback: Callback, account: str, fields: dict[str, str]
    ) -> int:
        """Post once, and give the status: a receiver that fails has missed it."""
        if self._session is None:
            # A receiver may close a kept connection just as a post goes out on it,
            # and the event would be lost though nothing is wrong.
            connector = aiohttp.TCPConnector(force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)
        headers = self._signatures(callback.url, account, fields)
        form = fields if callback.body == "form" else None
        document = fields if callback.body == "json" else None
        async with self._session.post(
            callback.url,
            data=form,
            json=document,
            headers=headers if callback.signed else None,
        ) as answer:
            return answer.status

    def _signatures(
        self, url: str, account: str, fields: Mapping[str, str]
    ) -> dict[str, str]:
        own, main = self._tokens(account)
        nonce = f"{secrets.randbelow(10**20):020}"
        return {
            "X-Plivo-Signature-V3": sign_v3(own, url, nonce, fields),
            "X-Plivo-Signature-Ma-V3": sign_v3(main, url, nonce, fields),
            "X-Plivo-Signature-V3-Nonce": nonce,
        }

    def reset(self) -> None:
        """Post nothing more, and forget what was told; a new callback may come."""
        self.callback = None
        self._told.clear()
        for task in list(self._tasks):
            task.cancel()

    async def close(self) -> None:
        """Post nothing more."""
        self.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session:
            await self._session.close()
