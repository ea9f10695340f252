"""The logger `aiophlo`, which never raises, and the log records of outcomes.

A filter or handler is foreign code that runs between an answer and its verdict: what
it raises may change neither.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterator, MutableMapping
from typing import Any, NoReturn

from aiophlo.model.accounts import Account
from aiophlo.model.outcomes import InDoubt, Outcome, Reason, reason_of
from aiophlo.model.redaction import mask_error, mask_id, mask_text

_ENDS_THE_PROGRAM = (KeyboardInterrupt, SystemExit)


class _Log(logging.LoggerAdapter[logging.Logger]):
    """Logs as its logger does, and never raises."""

    def __init__(self) -> None:
        super().__init__(logging.getLogger("aiophlo"), {})

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        """Return both as they are: `extra` is the caller's."""
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 -- logging's own
        """Log, as `logging.Logger.log` does."""
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        with _contained():
            super().log(level, msg, *args, **kwargs)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 -- logging's name
        """Say whether a record of this level would go anywhere."""
        try:
            return self.logger.isEnabledFor(level)
        except BaseException as error:  # noqa: BLE001 -- it harms nothing else
            let_end(error)
            return False

    def failure(
        self,
        message: str,
        *args: object,
        error: BaseException,
    ) -> None:
        """Log at ERROR what foreign code raised, its traceback masked.

        The record has the text of the traceback, as a formatter leaves it there,
        and not the exception: its words and its frames hold numbers.

        Args:
            message: What failed.
            args: What goes into it.
            error: What was raised.
        """
        logger = self.logger
        with _contained():
            if not logger.isEnabledFor(logging.ERROR):
                return
            file, line, function, _ = logger.findCaller(stacklevel=2)
            record = logger.makeRecord(
                logger.name,
                logging.ERROR,
                file,
                line,
                message,
                args,
                None,
                function,
            )
            record.exc_text = mask_error(error, in_lines=True)
            logger.handle(record)


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """Let nothing out that logging raises: it is told to stderr instead."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001 -- it harms nothing else
        _tell_stderr(error)
        let_end(error)


logger = _Log()


def let_end(error: BaseException) -> None:
    """Let what is to end the program do so, in the event loop's next step.

    By then what is going on here has its verdict. A loop passes on what it finds
    itself, as it would a Ctrl-C.

    Args:
        error: What was raised; nothing happens unless it is a
            `KeyboardInterrupt` or `SystemExit`.
    """
    if isinstance(error, _ENDS_THE_PROGRAM):
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise error from None
        loop.call_soon(_raise, error)


def _raise(error: BaseException) -> NoReturn:
    raise error


def _tell_stderr(error: BaseException) -> None:
    """Say so where logging itself does when a handler fails."""
    if logging.raiseExceptions and isinstance(error, Exception):
        with contextlib.suppress(Exception):
            sys.stderr.write(
                f"aiophlo could not log: {mask_error(error, in_lines=True)}\n"
            )


def log_attempt(
    account: Account, outcome: Outcome, number: int, handover: str | None
) -> None:
    """Log what one attempt came to, at DEBUG; see `log_end`."""
    with _contained():  # a key may be of a class of the caller's
        fields = _fields(account, outcome, number, handover)
        _log(logging.DEBUG, "%s of %s: %s", outcome, fields)


def log_end(
    account: Account, outcome: Outcome, number: int, handover: str | None = None
) -> None:
    """Log the outcome of an action: a doubt at WARNING, any other at INFO.

    A question that its caller didn't wait for is no doubt.

    Args:
        account: Whose action.
        outcome: What it came to.
        number: Id of the action.
        handover: Id of the handover that asked, if one did.
    """
    doubtful = isinstance(outcome, InDoubt) and not (
        outcome.action.reads and outcome.reason is Reason.CANCELLED
    )
    level = logging.WARNING if doubtful else logging.INFO
    if not logger.isEnabledFor(level):
        return
    message = "after %s, %s: %s"
    if outcome.joined:
        message = "joined one that took %s, %s: %s"
    with _contained():
        _log(level, message, outcome, _fields(account, outcome, number, handover))


def _log(level: int, message: str, outcome: Outcome, fields: dict[str, Any]) -> None:
    attempts = f"attempt {outcome.attempts}"
    if level != logging.DEBUG:
        attempts = f"{outcome.attempts} attempt{'s' * (outcome.attempts != 1)}"
    logger.log(
        level,
        message,
        attempts,
        fields["phlo_action"],
        _summary(outcome),
        extra=fields,
    )


def _summary(outcome: Outcome) -> str:
    parts = [outcome.verdict]
    if (reason := reason_of(outcome)) is not None:
        parts.append(f"({reason})")
    if outcome.status is not None:
        parts.append(f"status {outcome.status}")
    if outcome.error:
        parts.append(mask_text(outcome.error))
    return " ".join(parts)


def _fields(
    account: Account, outcome: Outcome, number: int, handover: str | None
) -> dict[str, Any]:
    """Return the log record's fields for machines, nothing in the clear."""
    key = outcome.action.key
    return {
        "phlo_account": account.auth_id,
        "phlo_action": type(outcome.action).__name__,
        "phlo_action_id": number,
        "phlo_handover": handover,
        "phlo_key": None if key is None else mask_text(str(key)),
        "phlo_verdict": outcome.verdict,
        "phlo_reason": reason_of(outcome),
        "phlo_status": outcome.status,
        "phlo_api_id": None if outcome.api_id is None else mask_id(outcome.api_id),
        "phlo_request_id": (
            None if outcome.request_id is None else mask_id(outcome.request_id)
        ),
        "phlo_attempts": outcome.attempts,
        "phlo_joined": outcome.joined,
        "phlo_seconds": round(outcome.seconds, 6),
        "phlo_waited": round(outcome.waited, 6),
    }
