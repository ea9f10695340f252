"""Accounts and quotas: checked when built, and silent about their secret."""

import base64
import copy
import math
import pickle
import traceback
from bisect import bisect_left
from enum import Enum
from typing import Any

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aiophlo.errors import InvalidInputError
from aiophlo.model.accounts import Account, Quota, Rate

MAIN = "MA" + "X" * 18
SUB = "SA" + "Y" * 18
TOKEN = "canary-Zm9vYmFyYmF6cXV4"  # noqa: S105 -- made up
HUGE = 10**400


def test_account_carries_its_defaults() -> None:
    """Who sets nothing must be kept within Plivo's documented limit."""
    account = Account(MAIN, TOKEN)
    assert account.quota == Quota(300, per=5.0, burst=1, jitter=0.05)
    assert (account.main, account.calls_per_second) == (None, None)
    assert account.quota_owner == MAIN
    assert Account(SUB, TOKEN, main=MAIN).quota_owner == MAIN
    assert Account(SUB, TOKEN).quota_owner == SUB


def test_authorization_is_basic() -> None:
    """A wrong header means every transfer is refused."""
    scheme, _, pair = Account(MAIN, TOKEN).authorization.partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(pair).decode() == f"{MAIN}:{TOKEN}"


def test_authorization_is_bearer_with_a_scoped_token() -> None:
    """A token that may do less is no password of the account."""
    account = Account("MA" + "X" * 18, "stk_abc")
    assert account.authorization == "Bearer stk_abc"
    assert "stk_abc" not in repr(account)


def test_token_is_hidden_but_survives_the_journey() -> None:
    """A token in a log is everybody's; a token lost in pickling is nobody's."""
    account = Account(MAIN, TOKEN, quota=None, calls_per_second=2)
    assert TOKEN not in f"{account!r} {account} {account!s}"
    for twin in (
        pickle.loads(pickle.dumps(account)),  # noqa: S301 -- our own bytes
        copy.copy(account),
        copy.deepcopy(account),
        attrs.evolve(account),
    ):
        assert twin == account
        assert hash(twin) == hash(account)
        assert twin.auth_token == TOKEN
        assert TOKEN not in repr(twin)
    assert attrs.evolve(account, auth_token="other") != account  # noqa: S106


@pytest.mark.parametrize("value", [Account(MAIN, TOKEN), Quota()], ids=["a", "q"])
def test_value_can_not_change(value: Account | Quota) -> None:
    """An account that changed under its limiter would be paced as another."""
    for field in attrs.fields(type(value)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, field.name, None)
    assert not hasattr(value, "__dict__")


WRONG_TEXT = [
    None,
    14155550100,
    TOKEN.encode(),
    [TOKEN],
    {"token": TOKEN},
    "",
    f"{TOKEN}\n",
    f"{TOKEN} x",
    f"{TOKEN}\u00e9",
    f"{TOKEN}\ud800",
    f"{TOKEN}\x00",
]


@pytest.mark.parametrize("value", WRONG_TEXT, ids=ascii)
@pytest.mark.parametrize("field", ["auth_id", "auth_token", "main"])
def test_wrong_credential_is_refused_and_unshown(field: str, value: Any) -> None:  # noqa: ANN401 -- the case
    """The message of a mistyped secret is read by more people than the secret."""
    good: dict[str, Any] = {"auth_id": SUB, "auth_token": TOKEN, "main": MAIN}
    if (field, value) == ("main", None):
        return
    with pytest.raises(InvalidInputError, match=f"^{field}: ") as caught:
        Account(**{**good, field: value})
    assert caught.value.field == field
    assert TOKEN not in "".join(traceback.format_exception_only(caught.value))
    assert TOKEN not in repr(caught.value)


@pytest.mark.parametrize(
    "auth_id",
    [MAIN[:-1], MAIN + "X", MAIN.lower(), "AC" + "X" * 18, TOKEN, f"{MAIN}\n"],
)
def test_auth_id_of_another_shape_is_refused(auth_id: str) -> None:
    """Token and id swapped, or an id cut short, should fail before the first call."""
    with pytest.raises(InvalidInputError, match=r"^auth_id: ") as caught:
        Account(auth_id, TOKEN)
    assert TOKEN not in str(caught.value)
    with pytest.raises(InvalidInputError, match=r"^main: "):
        Account(SUB, TOKEN, main=SUB)


def test_main_account_names_no_main() -> None:
    """Two main accounts sharing one pace would starve each other."""
    with pytest.raises(InvalidInputError, match=r"^main: expected only"):
        Account(MAIN, TOKEN, main=MAIN)


def test_credential_of_a_string_enum_is_its_value() -> None:
    """Some Pythons format such a member as its name: a path to nowhere."""

    class Secrets(str, Enum):  # noqa: UP042 -- the older spelling is the case
        ID = MAIN
        TOKEN = TOKEN

    account = Account(Secrets.ID, Secrets.TOKEN)
    assert type(account.auth_id) is type(account.auth_token) is str
    assert account.authorization == Account(MAIN, TOKEN).authorization


@pytest.mark.parametrize("value", [0, -1, HUGE, True, None, "5", float("nan"), [1]])
@pytest.mark.parametrize("field", ["limit", "per", "burst", "jitter"])
def test_wrong_quota_is_refused_by_field(field: str, value: Any) -> None:  # noqa: ANN401 -- the case
    """A pace of zero or of nothing would hold every transfer forever."""
    if (field, value) == ("jitter", 0):
        return
    with pytest.raises(InvalidInputError, match=f"^{field}: ") as caught:
        Quota(**{field: value})
    assert caught.value.field == field


def test_quota_shows_nothing_of_a_misplaced_value() -> None:
    """A number given for the limit by mistake is still somebody's."""
    misplaced: Any = "+14155550100"
    with pytest.raises(InvalidInputError) as caught:
        Quota(misplaced)
    assert "155550100" not in str(caught.value)
    with pytest.raises(InvalidInputError) as caught:
        Quota.parse("+14155550100")
    assert "155550100" not in str(caught.value)


@pytest.mark.parametrize(
    ("quota", "interval"),
    [
        (Quota(), 5.05 / 299),
        (Quota(300, per=5, burst=3, jitter=0), 5 / 297),
        (Quota(1, per=5.0), 5.05),
        (Quota(2, per=5.0), 5.05),
    ],
)
def test_interval_keeps_within_the_window(quota: Quota, interval: float) -> None:
    """One request too many in a window and Plivo refuses somebody's transfer."""
    assert quota.interval == pytest.approx(interval)


@pytest.mark.parametrize(("limit", "burst"), [(300, 300), (2, 2), (1, 2)])
def test_burst_as_large_as_the_limit_is_refused(limit: int, burst: int) -> None:
    """A full window at once has its edge meet the server's."""
    with pytest.raises(InvalidInputError, match=r"^burst: "):
        Quota(limit, burst=burst)


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("300/5", Quota(300, per=5.0)),
        (" 10 / 0.5 ", Quota(10, per=0.5)),
        ("none", None),
        (" NONE ", None),
    ],
)
def test_quota_reads_its_text(text: str, quota: Quota | None) -> None:
    """An operator writes the quota as the contract does."""
    assert Quota.parse(text) == quota


@pytest.mark.parametrize(
    "text", ["", "300", "300/5/1", "a/b", "0/5", "300/0", "300/nan", "1.5/5", "/"]
)
def test_quota_of_no_sense_is_refused(text: str) -> None:
    """A quota misread is a thousand 429s."""
    with pytest.raises(InvalidInputError, match=r"^quota: ") as caught:
        Quota.parse(text)
    assert caught.value.field == "quota"


@pytest.mark.parametrize("value", [0, -1, HUGE, True, "2", [2], float("inf")])
def test_wrong_pace_of_calls_is_refused(value: Any) -> None:  # noqa: ANN401 -- the case
    """A second pace of zero would never dial."""
    with pytest.raises(InvalidInputError, match=r"^calls_per_second: "):
        Account(MAIN, TOKEN, calls_per_second=value)


@pytest.mark.parametrize("value", [300, "300/5", (300, 5.0), {"limit": 300}])
def test_quota_of_another_type_is_refused(value: Any) -> None:  # noqa: ANN401 -- the case
    """A quota that silently meant none would draw the 429s it was set to avoid."""
    with pytest.raises(InvalidInputError, match=r"^quota: "):
        Account(MAIN, TOKEN, quota=value)


def test_account_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows the official SDKs' names must find them honoured."""
    environ = {"PLIVO_AUTH_ID": SUB, "PLIVO_AUTH_TOKEN": TOKEN}
    account = Account.from_env(environ, main=MAIN, quota=None, calls_per_second=2)
    assert account == Account(SUB, TOKEN, main=MAIN, quota=None, calls_per_second=2)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert Account.from_env() == Account(SUB, TOKEN)


@pytest.mark.parametrize("missing", ["PLIVO_AUTH_ID", "PLIVO_AUTH_TOKEN"])
@pytest.mark.parametrize("blank", [None, "", "  "])
def test_missing_credential_is_named(missing: str, blank: str | None) -> None:
    """Half a pair must never be completed from elsewhere."""
    environ = {"PLIVO_AUTH_ID": MAIN, "PLIVO_AUTH_TOKEN": TOKEN}
    del environ[missing]
    if blank is not None:
        environ[missing] = blank
    with pytest.raises(InvalidInputError, match=f"^{missing}: ") as caught:
        Account.from_env(environ)
    assert caught.value.field == missing
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("name", ["PLIVO_AUTH_ID", "PLIVO_AUTH_TOKEN"])
@pytest.mark.parametrize(
    ("form", "surplus"),
    [("{}\n", "line break"), ("{}\r", "line break"), (" {}", "blanks")],
)
def test_credential_in_the_environment_says_what_it_has_too_much(
    name: str, form: str, surplus: str
) -> None:
    """Read here without a word, it fails in the receiver or the SDK beside it."""
    environ = {"PLIVO_AUTH_ID": MAIN, "PLIVO_AUTH_TOKEN": TOKEN}
    environ[name] = form.format(environ[name])
    said = f"^{name}: .*without the {surplus} around it$"
    with pytest.raises(InvalidInputError, match=said) as caught:
        Account.from_env(environ)
    assert caught.value.field == name
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("auth_id", "token", "surplus"),
    [
        ("MA" + "X" * 18, "secret-value\n", "without the line break around it"),
        ("MA" + "X" * 18, "secret-value\r\n", "without the line break around it"),
        ("MA" + "X" * 18, " secret-value", "without the blanks around it"),
        ("MA" + "X" * 18 + "\n", "t", "without the line break around it"),
        ("MA" + "X" * 18, "secret value", "visible ASCII characters$"),
        ("MA" + "X" * 18, "\n", "visible ASCII characters$"),
    ],
)
def test_credential_from_a_file_says_what_it_has_too_much(
    auth_id: str, token: str, surplus: str
) -> None:
    """A line break can't be seen, and the account's owner would doubt the token."""
    with pytest.raises(InvalidInputError, match=surplus) as caught:
        Account(auth_id, token)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("quota", "slots"),
    [
        (Quota(300, per=5.0), 2),
        (Quota(300, per=5.0, jitter=0.2), 6),
        (Quota(300, per=5.0, burst=10), 2),
        (Quota(300, per=5.0, jitter=0.0), 0),
        (Quota(10, per=1.0), 1),
        (None, 0),
    ],
    ids=repr,
)
def test_rate_is_overdrawn_by_what_the_quota_has_room_for(
    quota: Quota | None, slots: int
) -> None:
    """More than that draws 429s in the very minute in which customers are on hold."""
    assert Rate.of_quota(quota).overdraft == slots


@given(
    limit=st.integers(1, 400),
    per=st.sampled_from([1.0, 5.0]),
    phases=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=20),
    late=st.floats(0.0, 1.0),
)
def test_pools_that_know_nothing_of_each_other_keep_to_the_quota_together(
    limit: int, per: float, phases: list[float], late: float
) -> None:
    """18 pools with a share of 16.6 each sent 17 in a period, 6 too many together."""
    assume(len(phases) <= limit)
    quota = Quota(limit, per=per)
    interval = Rate.of_quota(quota).share(len(phases)).interval
    slots = sorted(
        (phase + number) * interval
        for phase in phases
        for number in range(math.ceil(2 * per / interval))
    )
    edge = late * per
    came = [edge if edge - quota.jitter < at < edge else at for at in slots]
    ends = [bisect_left(came, at + per - 1e-9) for at in came]
    assert max(end - number for number, end in enumerate(ends)) <= limit
