"""Where the API is and how it is reached, as options and the environment say."""

from collections.abc import Sequence
from typing import Any

import attrs

from aiophlo.model.accounts import Account
from aiophlo.observed_events import Observer
from aiophlo.pool import SessionPool
from aiophlo.protocol.environment import BASE_URL, base_url_from_environment

_NOBODY = Account("MA" + "0" * 18, "none")


@attrs.frozen
class Endpoint:
    """The way to the API.

    Attributes:
        base_url: Where it is; None for what the environment says, else Plivo's.
        proxy: What to go through; None for what the environment says.
        allow_plaintext: Show the credentials to whoever is on the way.
    """

    base_url: str | None = None
    proxy: str | None = None
    allow_plaintext: bool = False

    @property
    def url(self) -> str:
        """Where the API is."""
        return self.base_url or base_url_from_environment() or BASE_URL

    def pool(
        self,
        account: Account,
        observers: Sequence[Observer] = (),
        **options: Any,  # noqa: ANN401 -- the pool's own
    ) -> SessionPool:
        """Return a pool that goes this way, not yet open.

        Raises:
            InvalidInputError: It can't be gone.
        """
        return SessionPool(
            account,
            base_url=self.base_url,
            proxy=self.proxy,
            trust_env=True,
            allow_plaintext=self.allow_plaintext,
            observers=observers,
            **options,
        )

    def check(self) -> None:
        """Refuse what can't be gone, before anything is begun.

        Raises:
            InvalidInputError: Says why.
        """
        self.pool(_NOBODY)
