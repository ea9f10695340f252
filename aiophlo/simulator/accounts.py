"""The accounts that the simulator knows: credentials, and which share a quota."""

import base64
from typing import Final

import attrs

from aiophlo.simulator.quota import MovingWindow

_SCOPED: Final = "stk_"  # what a scoped token begins with


@attrs.frozen
class SimulatedAccount:
    """An account or subaccount.

    Attributes:
        auth_id: Its id.
        auth_token: Its secret.
        window: Quota of its main account, None for no limit.
        main_token: The main account's secret.
    """

    auth_id: str
    auth_token: str = attrs.field(repr=False)
    window: MovingWindow | None = attrs.field(repr=False)
    main_token: str = attrs.field(repr=False)


class Accounts:
    """All accounts that the simulator knows, found by their Authorization header.

    Args:
        quota: Requests and seconds that each main account may make, None for no limit.
    """

    def __init__(self, quota: tuple[int, float] | None) -> None:
        self._quota = quota
        self._by_credentials: dict[str, SimulatedAccount] = {}
        self._by_scoped_token: dict[str, SimulatedAccount] = {}
        self._by_id: dict[str, SimulatedAccount] = {}

    def add(
        self, auth_id: str, auth_token: str, main: str | None = None
    ) -> SimulatedAccount:
        """Add an account, or with `main` a subaccount of that one.

        Raises:
            KeyError: There is no account `main`.
        """
        if main is None:
            window = MovingWindow(*self._quota) if self._quota else None
            account = SimulatedAccount(auth_id, auth_token, window, auth_token)
        else:
            owner = self._by_id[main]
            account = SimulatedAccount(
                auth_id, auth_token, owner.window, owner.auth_token
            )
        credentials = base64.b64encode(f"{auth_id}:{auth_token}".encode()).decode()
        self._by_credentials[credentials] = account
        if auth_token.startswith(_SCOPED):
            self._by_scoped_token[auth_token] = account
        self._by_id[auth_id] = account
        return account

    def reset(self) -> None:
        """Forget all of them, and what they have used of their quotas."""
        self._by_credentials.clear()
        self._by_scoped_token.clear()
        self._by_id.clear()

    def find(self, authorization: str) -> SimulatedAccount | None:
        """Find the account of an Authorization header.

        Source:
            Plivo docs, "Authentication": Basic. Plivo's own command line: scoped
            tokens, `stk_…`, go as Bearer. Assumed: the PHLO API takes both.
        """
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return self._by_scoped_token.get(credentials.strip())
        if scheme.lower() != "basic":
            return None
        return self._by_credentials.get(credentials.strip())

    def tokens(self, auth_id: str) -> tuple[str, str]:
        """Give an account's secret and its main account's.

        Raises:
            KeyError: There is no such account.
        """
        account = self._by_id[auth_id]
        return account.auth_token, account.main_token
