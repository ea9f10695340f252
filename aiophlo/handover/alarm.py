"""The alarm: a CRITICAL log record says that a customer may be on hold or alone."""

from aiophlo.logs import logger
from aiophlo.model.handover_records import OpenHandover
from aiophlo.model.redaction import mask


def sound_alarm(handover: OpenHandover, targets: str) -> str:
    """Log that a customer may be alone, and return the sentence that says so.

    Args:
        handover: Which one.
        targets: Whom the customer might be with, masked.
    """
    text = (
        "customer %s may be on hold or alone: it isn't known that they are back with"
        " agent %s or with %s"
    )
    agent = mask(handover.agent)
    values = (handover.customer, agent, targets)
    fields = {
        "phlo_account": handover.account,
        "phlo_handover": handover.id,
        "phlo_id": handover.phlo_id,
        "phlo_node_id": handover.node_id,
        "phlo_agent": agent,
        "phlo_customer": handover.customer,
        "phlo_targets": targets,
        "phlo_began_at": handover.began_at,
    }
    logger.critical(text, *values, extra=fields)
    return text % values
