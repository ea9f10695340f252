"""The paths of questions to Plivo's list of calls."""

from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from aiophlo.model.actions import Action
from aiophlo.model.call_queries import PAGE, CallQuery, GetCall, ListCalls
from aiophlo.model.invalid_input import InvalidInputError


def path_of(action: Action, auth_id: str) -> str:
    """Return the path of a question, with its query.

    Raises:
        InvalidInputError: `action` is none of this library's actions.

    Source:
        Plivo docs, "Voice API: Calls", and plivo-python.
    """
    if not isinstance(action, CallQuery):
        message = (
            f"action: expected one of aiophlo's actions, got {type(action).__name__}"
        )
        raise InvalidInputError(message, field="action")
    return f"/Account/{auth_id}/Call/{_call_query(action)}"


def _call_query(action: CallQuery) -> str:
    parameters: dict[str, str | int] = (
        {"status": action.status} if action.status else {}
    )
    if isinstance(action, GetCall):
        query = f"?{urlencode(parameters)}" if parameters else ""
        return f"{quote(action.call_uuid, safe='')}/{query}"
    if isinstance(action, ListCalls):
        if action.to is not None:
            parameters["to_number"] = action.to.removeprefix("+")
        if action.status != "queued":
            parameters["call_direction"] = "outbound"
        if action.ended_from is not None:
            parameters["end_time__gte"] = _utc(action.ended_from)
        parameters |= {"limit": PAGE, "offset": action.offset}
    return f"?{urlencode(parameters, quote_via=quote)}"


def _utc(at: float) -> str:
    """Return a Unix time as Plivo's filters want it, in whole seconds."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%d %H:%M:%S")
