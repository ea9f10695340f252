"""Accounts: credentials, and the quota that comes with them."""

import base64
import math
import os
from collections.abc import Mapping

import attrs

from aiophlo.model.invalid_input import InvalidInputError, refuse
from aiophlo.model.lazy_regex import lazy_compile

_AUTH_ID = lazy_compile(r"(?:MA|SA)[A-Z0-9]{18}")
_MAIN_ID = lazy_compile(r"MA[A-Z0-9]{18}")
_TOKEN = lazy_compile(r"[!-~]+")
_MOST = 1e12  # far above any limit, and far below where a float gives up
_SCOPED = "stk_"  # what a scoped token begins with
ID_VARIABLE = "PLIVO_AUTH_ID"
TOKEN_VARIABLE = "PLIVO_AUTH_TOKEN"  # noqa: S105 -- a variable's name


def _positive(value: float, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        refuse(field, "a number", value)
    if not 0 < value <= _MOST:
        refuse(field, f"a number above 0 and up to {_MOST:g}")
    return value


@attrs.frozen
class Quota:
    """Requests an account may make, sent evenly spread.

    A window filled at once would have its edge meet the server's and draw
    429s; even spacing with room for jitter does not.

    Attributes:
        limit: Requests in any `per` seconds.
        per: Length of the server's moving window in seconds.
        burst: Requests that may leave at the same moment.
        jitter: Seconds by which a request may arrive later than its slot.

    Raises:
        InvalidInputError: A value is not positive, or `burst` is not below `limit`.

    Source:
        Plivo docs, "Rate limits": 300 API requests per 5 seconds and main
        account. That PHLO requests count against it is assumed.
    """

    limit: int = 300
    per: float = attrs.field(default=5.0, kw_only=True)
    burst: int = attrs.field(default=1, kw_only=True)
    jitter: float = attrs.field(default=0.05, kw_only=True)

    def __attrs_post_init__(self) -> None:
        for name in ("limit", "burst"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                refuse(name, "a whole number", value)
            _positive(value, name)
        _positive(self.per, "per")
        if self.jitter != 0:
            _positive(self.jitter, "jitter")
        if self.burst > max(self.limit - 1, 1):
            refuse("burst", f"fewer than the limit of {self.limit}")

    @property
    def interval(self) -> float:
        """Seconds from one slot to the next."""
        return (self.per + self.jitter) / max(self.limit - self.burst, 1)

    @classmethod
    def parse(cls, text: str) -> "Quota | None":
        """Read `'300/5'` (requests / seconds) or `'none'`.

        Raises:
            InvalidInputError: It is neither.
        """
        if text.strip().lower() == "none":
            return None
        try:
            limit, per = text.split("/")
            return cls(int(limit), per=float(per))
        except ValueError as error:
            message = "quota: expected requests/seconds such as 300/5, or none"
            raise InvalidInputError(message, field="quota") from error


def parse_auth_id(value: str, *, field: str = "auth_id") -> str:
    """Return an account's id as a plain `str`.

    Raises:
        InvalidInputError: It can't be one.
    """
    match = _AUTH_ID.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        right = "20 capitals and digits that begin with MA (account) or SA (subaccount)"
        refuse(field, right + _surplus(value))
    return match[0]  # a plain str: a str-based enum formats as its own name


def _surplus(value: object) -> str:
    """Say what a credential has too much that was read from a file, say."""
    if not isinstance(value, str) or value == value.strip():
        return ""
    surplus = "line break" if value.strip(" \t") != value.strip() else "blanks"
    return f", without the {surplus} around it" if value.strip() else ""


def parse_auth_token(value: str, *, field: str = "auth_token") -> str:
    """Return an auth token as a plain `str`.

    Raises:
        InvalidInputError: It can't be one; the message never shows it.
    """
    match = _TOKEN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        refuse(field, f"a string of visible ASCII characters{_surplus(value)}")
    return match[0]


def _main(value: str | None) -> str | None:
    if value is None:
        return None
    match = _MAIN_ID.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        refuse("main", "the main account's auth_id, MA and 18 more")
    return match[0]


@attrs.frozen
class Account:
    """One account's credentials and limits.

    Attributes:
        auth_id: 20 characters, `MA…` (account) or `SA…` (subaccount).
        auth_token: Its secret, or a scoped token of it, `stk_…`; never shown.
        main: `auth_id` of the main account a subaccount belongs to: they share
            one quota, and so one pace.
        quota: Requests the main account may make; None sends unpaced.
        calls_per_second: Dialling actions per second, a second pace beside the
            quota; None (the default) sets none.

    Raises:
        InvalidInputError: A value can't be right; the message never shows it.

    Source:
        Plivo docs, "Authentication", "Rate limits" and "Account limits": 2
        outbound calls per second by default, queued above that. Whether a
        transfer counts as one is unknown.
    """

    auth_id: str = attrs.field(converter=parse_auth_id)
    auth_token: str = attrs.field(converter=parse_auth_token, repr=lambda _: "'…'")
    main: str | None = attrs.field(default=None, kw_only=True, converter=_main)
    quota: Quota | None = attrs.field(default=Quota(), kw_only=True)
    calls_per_second: float | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.quota is not None and not isinstance(self.quota, Quota):
            refuse("quota", "a Quota, or None for no pacing")
        if self.calls_per_second is not None:
            _positive(self.calls_per_second, "calls_per_second")
        if self.main is not None and self.auth_id.startswith("MA"):
            refuse("main", "only with a subaccount (SA…)")

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        main: str | None = None,
        quota: Quota | None = Quota(),
        calls_per_second: float | None = None,
    ) -> "Account":
        """Read both credentials from the environment.

        Args:
            environ: Where to look; the process's own environment by default.
            main: As for `Account`.
            quota: As for `Account`.
            calls_per_second: As for `Account`.

        Raises:
            InvalidInputError: `PLIVO_AUTH_ID` or `PLIVO_AUTH_TOKEN` is missing
                or malformed, such as one that ends in a line break; the message
                names the variable.

        Source:
            The official SDKs' variable names.
        """
        environ = os.environ if environ is None else environ
        for name in (ID_VARIABLE, TOKEN_VARIABLE):
            if not environ.get(name, "").strip():
                refuse(name, "in the environment, is not set")
        return cls(
            parse_auth_id(environ[ID_VARIABLE], field=ID_VARIABLE),
            parse_auth_token(environ[TOKEN_VARIABLE], field=TOKEN_VARIABLE),
            main=main,
            quota=quota,
            calls_per_second=calls_per_second,
        )

    @property
    def quota_owner(self) -> str:
        """The `auth_id` whose quota its requests count against."""
        return self.main or self.auth_id

    @property
    def authorization(self) -> str:
        """Value of the `Authorization` header: Basic, or Bearer with a scoped token.

        Source:
            Plivo docs, "Authentication": Basic. Plivo's own command line: tokens that
            begin with `stk_` go as Bearer. Assumed: the PHLO API takes both.
        """
        if self.auth_token.startswith(_SCOPED):
            return f"Bearer {self.auth_token}"
        pair = f"{self.auth_id}:{self.auth_token}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


@attrs.frozen
class Rate:
    """How often requests of one kind may leave.

    Attributes:
        name: What all pools that share it call it.
        interval: Seconds from one slot to the next at full pace.
        burst: Slots that may come at once after a lull, in a pool alone.
        lateness: Seconds by which a slot may be used late.
        longest_growth: Longest pause, in seconds, after a 429 that doesn't say how
            long to wait.
        overdraft: Slots that may leave before their time, where pools share the rate.
        limit: Requests in any period of the quota; 0 without one.
    """

    name: str
    interval: float
    burst: int = 1
    lateness: float = 0.0
    longest_growth: float = 5.0
    overdraft: int = 0
    limit: int = 0

    @classmethod
    def of_quota(cls, quota: "Quota | None", name: str = "") -> "Rate":
        """Return the rate that keeps to `quota`; with None there are only pauses.

        Half of the quota's jitter is left to this process's own lateness, the other
        half to the way to Plivo. What its limit has room for beyond the slots that can
        fall into one period, late ones included, may be overdrawn.
        """
        if quota is None:
            return cls(name, 0.0)
        lateness = quota.jitter / 2
        most = math.floor((quota.per + lateness) / quota.interval) + quota.burst
        return cls(
            name,
            quota.interval,
            quota.burst,
            lateness,
            quota.per,
            overdraft=max(quota.limit - most, 0),
            limit=quota.limit,
        )

    def share(self, pools: float) -> "Rate":
        """Return the rate of one of so many pools that know nothing of each other.

        Into one period fall as many slots as the limit divided by them, rounded up,
        where that many pools may each be at the worst moment: so it is rounded down.
        """
        interval = self.interval * pools
        whole = math.floor(self.limit / pools)
        if whole:
            interval = max(interval, (self.longest_growth + 2 * self.lateness) / whole)
        return attrs.evolve(self, interval=interval, burst=1)
