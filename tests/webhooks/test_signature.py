"""Signatures: nobody but Plivo may move a live call's state."""

import base64
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, MultiDict
from plivo.utils import (  # type: ignore[import-untyped]  # it ships no types
    validate_v3_signature,
)

from aiophlo.errors import InvalidInputError
from aiophlo.webhooks.signature import (
    NonceCache,
    find_nonce,
    is_signed,
    sign,
    verify_signature,
)

TOKEN = "MjM0NTY3ODkwYWJjZGVmZ2hpams"  # noqa: S105 -- a published test vector's token
URL = "https://cc.example.com/phlo/events"
NONCE = "12345678901234567890"
VECTORS = [
    pytest.param(
        "GET",
        f"{URL}?b=2&a=1",
        {"CallUUID": "c0ffee00-1111-2222-3333-444455556666", "From": "+14155550100"},
        NONCE,
        "fSTCl54+nPoWKQy1c/mS7lXW99hYnAQrPAcUzR1Jnb4=",
        id="get-with-query-and-params",
    ),
    pytest.param(
        "POST",
        URL,
        {
            "To": "+14155550101",
            "From": "+14155550100",
            "CallStatus": "completed",
            "Duration": "42",
        },
        NONCE,
        "5SpBGX1cah4a6dhC9WpQe8MkcJc+bkDN3bAOCAI9zfc=",
        id="post-with-params",
    ),
    pytest.param(
        "POST",
        f"{URL}?tenant=acme&b=x%20y",
        {"Digits": ["2", "1"], "Name": "José Ñ", "Empty": ""},
        "05429567804466091622",
        "H6EGi+4gjqVuTAUvLtkPIpePMd4FrQOj4J87KGjoDVY=",
        id="post-with-query-list-and-unicode",
    ),
    pytest.param(
        "GET",
        URL,
        {},
        NONCE,
        "JdfiIwmfSTgzwej5k+vzewXwUngWZH96d6c82XEiigQ=",
        id="get-bare",
    ),
    pytest.param(
        "POST",
        URL,
        {},
        NONCE,
        "JdfiIwmfSTgzwej5k+vzewXwUngWZH96d6c82XEiigQ=",
        id="post-bare",
    ),
]
PARAMS = {"Event": "ConferenceExit", "To": "+14155550101"}


def signed(
    signature: str | None = None,
    *,
    nonce: str = NONCE,
    header: str = "X-Plivo-Signature-V3",
) -> dict[str, str]:
    """Return headers with `signature`, by default the right one for `PARAMS`."""
    if signature is None:
        signature = sign("POST", URL, PARAMS, nonce=nonce, auth_token=TOKEN)
    return {header: signature, "X-Plivo-Signature-V3-Nonce": nonce}


@pytest.mark.parametrize(("method", "url", "params", "nonce", "signature"), VECTORS)
def test_published_vector_is_accepted(
    method: str, url: str, params: Mapping[str, object], nonce: str, signature: str
) -> None:
    """A genuine event that is refused leaves a handover waiting for nothing."""
    headers = signed(signature, nonce=nonce)
    assert verify_signature(method, url, headers, params, auth_tokens=TOKEN)
    assert sign(method, url, params, nonce=nonce, auth_token=TOKEN) == signature


@pytest.mark.parametrize(("method", "url", "params", "nonce", "signature"), VECTORS)
def test_published_vector_is_refused_when_anything_else_differs(
    method: str, url: str, params: Mapping[str, object], nonce: str, signature: str
) -> None:
    """A caller whose call anybody could end by forging an event would be cut off."""
    headers = signed(signature, nonce=nonce)

    def verify(
        headers: Mapping[str, str] = headers, token: str = TOKEN, more: str = ""
    ) -> bool:
        return verify_signature(method, url + more, headers, params, auth_tokens=token)

    assert verify()
    assert not verify(token="another")  # noqa: S106 -- no secret
    assert not verify(more="x")
    assert not verify(headers=signed(signature, nonce="1"))
    assert not verify(headers=signed(signature.swapcase(), nonce=nonce))
    assert not verify(headers={"X-Plivo-Signature-V3": signature})


def test_changed_parameter_is_refused() -> None:
    """An event about one caller must not be turned into one about another."""
    forged = {**PARAMS, "To": "+14155550102"}
    assert verify_signature("POST", URL, signed(), PARAMS, auth_tokens=TOKEN)
    assert not verify_signature("POST", URL, signed(), forged, auth_tokens=TOKEN)
    assert not verify_signature("POST", URL, signed(), None, auth_tokens=TOKEN)


@pytest.mark.parametrize("header", ["x-plivo-signature-v3", "X-PLIVO-SIGNATURE-MA-V3"])
@pytest.mark.parametrize("pattern", ["{}", "bad,{}", "bad , {} ", " {},,"])
def test_signature_is_found_among_several_in_either_header(
    header: str, pattern: str
) -> None:
    """Subaccounts and rotated tokens make Plivo send more than one signature."""
    right = signed()["X-Plivo-Signature-V3"]
    headers = signed(pattern.format(right), header=header)
    assert verify_signature("post", URL, headers, PARAMS, auth_tokens=TOKEN)


def test_signature_is_found_in_a_repeated_header() -> None:
    """A proxy may split the list of signatures over several header lines."""
    headers = CIMultiDict(signed("bad"))
    headers.add("x-plivo-signature-v3", signed()["X-Plivo-Signature-V3"])
    assert verify_signature("POST", URL, headers, PARAMS, auth_tokens=TOKEN)


def test_two_nonces_are_refused() -> None:
    """Which one was signed must not be the sender's choice."""
    headers = CIMultiDict(signed())
    headers.add("X-Plivo-Signature-V3-Nonce", "1")
    assert not verify_signature("POST", URL, headers, PARAMS, auth_tokens=TOKEN)


def test_any_of_several_tokens_is_accepted() -> None:
    """During a token's rotation no event may be lost."""
    tokens = ("old", TOKEN)
    assert verify_signature("POST", URL, signed(), PARAMS, auth_tokens=tokens)
    assert not verify_signature("POST", URL, signed(), PARAMS, auth_tokens=())


def test_empty_token_never_matches() -> None:
    """A missing environment variable must not open the door to everybody."""
    digest = hmac.digest(b"", f"{URL}.{NONCE}".encode(), "sha256")
    forged = base64.b64encode(digest).decode()
    headers = signed(forged)
    assert not verify_signature("POST", URL, headers, auth_tokens="")
    assert not verify_signature("POST", URL, headers, auth_tokens=["", "x"])
    with pytest.raises(InvalidInputError, match="auth_token"):
        sign("POST", URL, nonce=NONCE, auth_token="")


@pytest.mark.parametrize(
    "nonce", ["", " ", "a.b", "1" * 65, "é", "٣", "a b", "a,b", "a\n", "+", "a\x00"]
)
def test_nonce_that_could_hide_fields_is_refused(nonce: str) -> None:
    """What may be a nonce and a field as well can be replayed as either."""
    digest = hmac.digest(TOKEN.encode(), f"{URL}.{nonce}".encode(), "sha256")
    headers = signed(base64.b64encode(digest).decode(), nonce=nonce)
    assert not verify_signature("POST", URL, headers, auth_tokens=TOKEN)
    with pytest.raises(InvalidInputError, match="nonce"):
        sign("POST", URL, nonce=nonce, auth_token=TOKEN)


@pytest.mark.parametrize("nonce", ["1", "Z", "_-", "a" * 64])
def test_any_other_nonce_is_accepted(nonce: str) -> None:
    """How Plivo makes nonces isn't documented; a genuine event must not be lost."""
    headers = signed(sign("POST", URL, nonce=nonce, auth_token=TOKEN), nonce=nonce)
    assert verify_signature("POST", URL, headers, auth_tokens=TOKEN)


def test_nonces_that_differ_in_case_are_two() -> None:
    """The second of two genuine events would be taken for a replay of the first."""
    nonces = NonceCache()
    for nonce in ("aB", "ab", "AB"):
        headers = signed(sign("POST", URL, nonce=nonce, auth_token=TOKEN), nonce=nonce)
        assert verify_signature("POST", URL, headers, auth_tokens=TOKEN, nonces=nonces)
    assert len(nonces) == 3


def test_request_allowed_again_is_allowed_once_and_alone() -> None:
    """A failure must open the door to what failed, and to nothing else."""
    clock = Clock()
    nonces = NonceCache(clock, size=2, keep_for=10.0)
    nonces.allow_again("a", b"x")
    assert nonces.add("a", b"x"), "what is unknown needs no leave"
    assert not nonces.add("a", b"x")
    nonces.allow_again("a", b"x")
    assert not nonces.add("a", b"y")
    assert nonces.add("a", b"x")
    assert not nonces.add("a", b"x")
    nonces.allow_again("a", b"x")
    clock.now = 10.0
    assert nonces.add("a", b"z")
    assert not nonces.add("a", b"x"), "what was allowed has been forgotten with it"


@pytest.mark.parametrize(
    ("public_url", "requested"),
    [
        ("https://cc.example.com", "http://10.0.0.7:8080/phlo/events"),
        ("https://cc.example.com/", "http://10.0.0.7:8080/phlo/events"),
        ("https://cc.example.com/phlo/events", "http://10.0.0.7:8080/events"),
        ("https://cc.example.com/phlo/events?ignored=1", "http://10.0.0.7/"),
    ],
)
def test_public_url_is_what_was_signed(public_url: str, requested: str) -> None:
    """Behind a proxy every genuine event would be refused."""
    signature = sign(
        "POST", f"{URL}?tenant=acme", PARAMS, nonce=NONCE, auth_token=TOKEN
    )
    url, headers = f"{requested}?tenant=acme", signed(signature)
    assert not verify_signature("POST", url, headers, PARAMS, auth_tokens=TOKEN)
    assert verify_signature(
        "POST", url, headers, PARAMS, auth_tokens=TOKEN, public_url=public_url
    )


@pytest.mark.parametrize("query", ["", "?tenant=acme"])
@pytest.mark.parametrize(
    "written", ["https://cc.example.com", "https://cc.example.com/"]
)
def test_url_without_a_path_is_signed_with_or_without_its_slash(
    written: str, query: str
) -> None:
    """People configure `https://host`, which every client requests as `/`."""
    headers = signed(
        sign("POST", written + query, PARAMS, nonce=NONCE, auth_token=TOKEN)
    )
    requested = f"https://cc.example.com/{query}"
    assert verify_signature("POST", requested, headers, PARAMS, auth_tokens=TOKEN)
    inner, public = f"http://10.0.0.7:8080/{query}", "https://cc.example.com"
    assert verify_signature(
        "POST", inner, headers, PARAMS, auth_tokens=TOKEN, public_url=public
    )
    bare = f"https://cc.example.com{query}"  # which a proxy may write so
    assert verify_signature("POST", bare, headers, PARAMS, auth_tokens=TOKEN)
    assert not verify_signature(
        "POST", f"{written}/x{query}", headers, PARAMS, auth_tokens=TOKEN
    )


def test_multidict_counts_like_lists() -> None:
    """Frameworks hand repeated fields over in different shapes."""
    params = MultiDict([("Digits", "1"), ("Name", "José Ñ"), ("Digits", "2")])
    params["Empty"] = ""
    *_, url, _, nonce, signature = VECTORS[2].values
    headers = signed(str(signature), nonce=str(nonce))
    assert verify_signature("POST", str(url), headers, params, auth_tokens=TOKEN)


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_replay_is_refused_only_with_a_nonce_cache() -> None:
    """A recorded "partner has left" must not end tomorrow's handover."""
    nonces = NonceCache(Clock())

    def verify(cache: NonceCache | None) -> bool:
        return verify_signature(
            "POST", URL, signed(), PARAMS, auth_tokens=TOKEN, nonces=cache
        )

    assert verify(None)
    assert verify(None)
    assert verify(nonces)
    assert not verify(nonces)
    nonces.allow_again(NONCE)
    assert verify(nonces)
    assert not verify(nonces)


def test_forged_request_leaves_no_nonce() -> None:
    """Forgeries must neither fill the cache nor burn a genuine request's nonce."""
    nonces = NonceCache(Clock())
    assert not verify_signature(
        "POST", URL, signed("forged"), PARAMS, auth_tokens=TOKEN, nonces=nonces
    )
    assert len(nonces) == 0
    assert verify_signature(
        "POST", URL, signed(), PARAMS, auth_tokens=TOKEN, nonces=nonces
    )


def test_nonce_cache_stays_bounded() -> None:
    """A service that runs for a year must not grow with every event."""
    clock = Clock()
    nonces = NonceCache(clock, size=2, keep_for=10.0)
    assert [nonces.add(nonce) for nonce in ("a", "b", "a", "c")] == [1, 1, 0, 1]
    assert repr(nonces) == "<NonceCache 2 of 2>"
    assert nonces.add("a"), "the oldest had to go"
    clock.now = 9.9
    assert not nonces.add("c")
    clock.now = 10.0
    assert nonces.add("c")
    assert len(nonces) == 1


@pytest.mark.parametrize("setting", [{"size": 0}, {"keep_for": 0.0}])
def test_useless_nonce_cache_is_refused(setting: dict[str, Any]) -> None:
    """A cache that remembers nothing would pass for protection."""
    with pytest.raises(InvalidInputError, match="more than 0"):
        NonceCache(**setting)


def test_headers_tell_whether_a_request_is_signed() -> None:
    """An unsigned request must not pass for a signed one."""
    assert is_signed({"x-plivo-signature-ma-v3": ""})
    assert not is_signed({"X-Plivo-Signature-V3-Nonce": "1"})
    assert find_nonce(signed()) == NONCE


@pytest.mark.parametrize(
    ("method", "url", "name"),
    [
        ("PUT", URL, "x"),
        ("GET", "http://[", "x"),
        ("GET", "/phlo/events", "x"),
        ("GET", URL, "\ud800"),
    ],
)
def test_unusable_request_is_not_signed(method: str, url: str, name: str) -> None:
    """A test that signs what can't be sent would prove nothing."""
    with pytest.raises(InvalidInputError, match="expected"):
        sign(method, url, {name: ""}, nonce=NONCE, auth_token=TOKEN)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text(st.characters(min_codepoint=0xD7F0, max_codepoint=0xE010))
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from([*signed(), "X-Plivo-Signature-Ma-V3"])


@given(
    method=st.sampled_from(["GET", "POST", "get"]) | JUNK,
    url=st.sampled_from([URL, "http://[", "//", "http://\u2100/"]) | st.text() | JUNK,
    headers=st.dictionaries(NAMES, st.just(NONCE) | JUNK) | JUNK,
    params=st.dictionaries(st.text(), JUNK) | JUNK,
    tokens=st.just(TOKEN) | st.lists(st.text()) | JUNK,
    public_url=st.none() | st.text() | JUNK,
)
def test_junk_is_refused_without_an_exception(**junk: object) -> None:
    """Anybody may post to a webhook; an exception would be theirs to cause."""
    assert not verify_signature(
        junk["method"],  # type: ignore[arg-type]  # junk on purpose
        junk["url"],  # type: ignore[arg-type]
        junk["headers"],  # type: ignore[arg-type]
        junk["params"],  # type: ignore[arg-type]
        auth_tokens=junk["tokens"],  # type: ignore[arg-type]
        public_url=junk["public_url"],  # type: ignore[arg-type]
    )


def test_params_nested_without_end_are_refused() -> None:
    """One deep JSON body must not take the service down."""
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert not verify_signature("POST", URL, signed(), deep, auth_tokens=TOKEN)
    while deep:  # freed step by step, for freeing it at once recurses too
        deep = deep["a"]  # type: ignore[assignment]  # known from above


VALUES = st.text(st.characters(codec="utf-8"), max_size=8)
PARAMETERS = st.dictionaries(
    VALUES,
    st.recursive(
        VALUES | st.integers() | st.booleans() | st.lists(VALUES, min_size=1),
        lambda inner: st.dictionaries(VALUES, inner, min_size=1, max_size=3),
        max_leaves=4,
    ),
    max_size=5,
)
# What the SDK can handle: it raises UnicodeEncodeError for anything else than
# ASCII in a query, drops `;parameters` of the path and writes an empty list or
# a nested mapping in a GET's parameters in Python's own notation.
ASCII = st.text(st.characters(codec="ascii"), max_size=8)
PATHS = st.text(st.characters(codec="ascii", exclude_characters=";"), max_size=12)
FLAT = st.dictionaries(VALUES, VALUES | st.lists(VALUES, min_size=1), max_size=5)


@given(
    path=PATHS,
    query=st.lists(st.tuples(ASCII, ASCII), max_size=4),
    method_and_params=st.tuples(st.just("GET"), FLAT)
    | st.tuples(st.just("POST"), PARAMETERS),
    nonce=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
)
def test_official_sdk_agrees(
    path: str,
    query: list[tuple[str, str]],
    method_and_params: tuple[str, dict[str, object]],
    nonce: str,
) -> None:
    """Whoever moves here from the SDK must not start to lose events."""
    method, params = method_and_params
    url = f"{URL}/{quote(path)}"
    url += f"?{urlencode(query)}" if query else ""
    signature = sign(method, url, params, nonce=nonce, auth_token=TOKEN)
    # It adds a GET's query to the parameters it is given, hence the copy.
    assert validate_v3_signature(method, url, nonce, TOKEN, signature, {**params})
    headers = signed(signature, nonce=nonce)
    assert verify_signature(method, url, headers, params, auth_tokens=TOKEN)
