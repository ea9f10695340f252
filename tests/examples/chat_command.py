"""A chat bot's command: `/transfer +14155550100 to +14155550199`."""

from aiophlo import EventRouter, InvalidInputError, PhloError, mask
from aiophlo.handles import MultiPartyCall
from aiophlo.pool import SessionPool


class TransferCommand:
    """Hands the call of whoever writes over to somebody else.

    Args:
        pool: Sends.
        node: Where calls take place.
        router: Is fed their events.
    """

    def __init__(
        self, pool: SessionPool, node: MultiPartyCall, router: EventRouter
    ) -> None:
        self.pool = pool
        self.node = node
        self.router = router

    async def __call__(self, agent: str, text: str) -> str:
        """Do what the agent wrote; return what the bot answers."""
        match text.split():
            case ["/transfer", customer, "to", *targets] if targets:
                return await self._transfer(agent, customer, targets)
        return "Write /transfer CUSTOMER to PARTNER [PARTNER …]"

    async def _transfer(self, agent: str, customer: str, targets: list[str]) -> str:
        try:
            async with self.pool.consult(
                self.node,
                agent=agent,
                customer=customer,
                to=targets,
                router=self.router,
            ) as consult:
                await consult.complete()
                return f"{mask(consult.partner)} has the customer."
        except InvalidInputError as error:
            return f"I can't do that: {error}"
        except PhloError as error:
            return str(error)  # who was tried, or that somebody must help now
