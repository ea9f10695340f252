"""One party is known however it is spelled, and never taken for another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiophlo.model.address_matching import (
    WITHHELD,
    is_withheld,
    national_keys,
    party_keys,
    phone_of,
    same_party,
)

ENDPOINT = "sip:sup7@h.example.com"


@pytest.mark.parametrize(
    "text",
    [
        "sip:sup7@h.example.com;transport=udp",
        "sip:sup7@h.example.com:5060",
        "sip:sup7@h.example.com:5060;transport=udp?x=y",
        "<sip:sup7@h.example.com>",
        "<sip:sup7@h.example.com;transport=udp>;tag=5",
        '"Agent" <sip:sup7@h.example.com>',
        '"Agent Seven" <sips:sup7@h.example.com>',
        "sips:sup7@h.example.com",
        "SIP:sup7@H.Example.COM",
        "sip:sup%37@h.example.com",
        "sip:s%75p%37@h.example.com",
        "sup7@h.example.com",
        "sup7@h.example.com:5060",
        "sip:sup7:secret@h.example.com",
        "sip:sup7@h.example.com.",
        " sip:sup7@h.example.com ",
    ],
)
def test_endpoint_is_the_same_however_it_is_spelled(text: str) -> None:
    """A supervisor who answered would be cut off as one who didn't."""
    assert same_party(ENDPOINT, text)
    assert party_keys(text) == party_keys(ENDPOINT)


@pytest.mark.parametrize(
    "text",
    [
        "sip:Sup7@h.example.com",
        "sip:sup8@h.example.com",
        "sip:sup7@other.example.com",
        "sip:sup7@example.com",
        "sip:h.example.com",
        "sup7",
        "",
    ],
)
def test_other_endpoint_is_another_party(text: str) -> None:
    """The wrong person's joining would complete the transfer."""
    assert not same_party(ENDPOINT, text)


def test_endpoint_at_an_ipv6_host_is_found_without_its_port() -> None:
    """Half of the address would pass for the port."""
    assert same_party("sip:a@[2001:DB8::1]:5060", "sip:a@[2001:db8::1]")
    assert not same_party("sip:a@[2001:db8::1]", "sip:a@[2001:db8::2]")


@pytest.mark.parametrize(
    ("text", "country_code"),
    [
        ("442079460958", None),
        ("+44 20 7946 0958", None),
        ("+44\u00a0(20)\u20117946-0958", None),
        ("tel:+442079460958", None),
        ("TEL:+44-20-7946-0958;ext=5", None),
        ("tel:2079460958;phone-context=+44", None),
        ("00442079460958", None),
        ("0044 20 7946 0958", None),
        ("sip:+442079460958@trunk.example.com", None),
        ("sip:%2B442079460958@trunk.example.com;user=phone", None),
        ("sip:+44-20-7946-0958;npdi@10.0.0.1:5060", None),
        ("<tel:+442079460958>", None),
        ("02079460958", "44"),
        ("020 7946 0958", "44"),
        ("2079460958", "44"),
        ("442079460958", "44"),
        ("011442079460958", "1"),
    ],
)
def test_number_is_the_same_however_it_is_spelled(
    text: str, country_code: str | None
) -> None:
    """A partner whose number came in national form would never be seen to answer."""
    assert same_party("+442079460958", text, country_code=country_code)


@pytest.mark.parametrize(
    ("text", "country_code"),
    [
        ("2079460958", None),
        ("02079460958", None),
        ("02079460958", "49"),
        ("2079460958", "1"),
        ("+12079460958", "44"),
        ("79460958", "44"),
        ("0958", "44"),
        ("sip:2079460958@trunk.example.com", "44"),
        ("011442079460958", "44"),
        ("tel:2079460958;phone-context=+1", "44"),
        ("tel:2079460958;phone-context=example.com", None),
        ("", "44"),
    ],
)
def test_number_is_not_guessed_from_its_end(
    text: str, country_code: str | None
) -> None:
    """Two people in two countries may have the same last ten digits."""
    assert not same_party("+442079460958", text, country_code=country_code)


def test_zero_that_belongs_to_the_number_is_kept() -> None:
    """An Italian landline keeps its 0 behind the country code."""
    assert same_party("+390612345678", "0612345678", country_code="39")
    assert "0612345678" in national_keys("+390612345678")


@pytest.mark.parametrize("key", ["sup@h", "+2471234", "+9991234567", "1000", WITHHELD])
def test_what_has_no_national_form_has_none(key: str) -> None:
    """Somebody's extension would pass for a number."""
    assert national_keys(key) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "anonymous",
        "Anonymous",
        "Restricted",
        "unavailable",
        "Private",
        "UNKNOWN",
        "Caller ID withheld",
        "Número oculto",
        "sip:anonymous@anonymous.invalid",
        '"Anonymous" <sip:anonymous@10.0.0.1:5060>',
        "sip:unavailable@unknown.invalid",
    ],
)
def test_withheld_number_is_nobody_in_particular(text: str) -> None:
    """One anonymous caller's hang-up would end another's handover."""
    assert is_withheld(text)
    assert not same_party(text, text)


@pytest.mark.parametrize("text", ["1000", "+14152225555", ENDPOINT, "Desk 7", "٣٣٣"])
def test_party_with_a_number_is_not_withheld(text: str) -> None:
    """A typing error in a number must not pass for an unknown caller."""
    assert not is_withheld(text)


FULL = st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True)
USER = st.text("abcXYZ0189._-+=$&,~*'()!", min_size=1, max_size=8).filter(
    lambda user: not user.startswith("+") and user.casefold() != "anonymous"
)
HOST = st.from_regex(r"[a-z0-9]{1,8}(\.[a-z0-9]{1,6}){0,2}", fullmatch=True)
ANY = FULL | st.text(max_size=30) | st.text("0123456789+", max_size=16)
CODE = st.sampled_from([None, "1", "7", "39", "44", "49", "351"])


def escaped(user: str, which: list[bool]) -> str:
    """Percent-encode some of a user's characters."""
    pairs = zip(user, which, strict=False)
    return "".join(f"%{ord(one):02x}" if encode else one for one, encode in pairs)


@given(FULL, FULL, CODE)
def test_two_whole_numbers_are_the_same_only_if_they_are(
    first: str, second: str, code: str | None
) -> None:
    """The wrong customer's transfer would be completed."""
    assert same_party(first, second, country_code=code) == (first == second)


@given(
    FULL,
    FULL,
    st.sampled_from(["{}", "tel:{}", "sip:{}@a.b", "<sips:{}@c:5061;x=y>", " {} "]),
)
def test_spelling_of_a_whole_number_is_no_other_number(
    first: str, second: str, spelled: str
) -> None:
    """The same, however either is spelled."""
    assert same_party(first, spelled.format(second)) == (first == second)


@given(ANY, CODE)
def test_party_is_the_same_as_itself(text: str, code: str | None) -> None:
    """An event that repeats our very spelling must be recognised."""
    assert same_party(text, text, country_code=code) == (not is_withheld(text))


@given(ANY, ANY, CODE)
def test_order_of_comparison_does_not_matter(
    first: str, second: str, code: str | None
) -> None:
    """Whether an event counts must not depend on who asks."""
    both = same_party(first, second, country_code=code)
    assert both == same_party(second, first, country_code=code)


@given(
    user=USER,
    host=HOST,
    which=st.lists(st.booleans(), min_size=8, max_size=8),
    scheme=st.sampled_from(["sip:", "sips:", "SIP:", ""]),
    port=st.sampled_from(["", ":5060", ":1"]),
    parameters=st.sampled_from(["", ";transport=udp", ";lr;x=%20"]),
    wrapped=st.sampled_from(["{}", "<{}>", '"A B" <{}>', "A <{}>;tag=1"]),
    upper=st.booleans(),
)
def test_all_spellings_of_an_endpoint_are_the_same(
    *,
    user: str,
    host: str,
    which: list[bool],
    scheme: str,
    port: str,
    parameters: str,
    wrapped: str,
    upper: bool,
) -> None:
    """Which of them events use isn't documented."""
    shown = host.upper() if upper else host
    text = f"{scheme}{escaped(user, which)}@{shown}{port}{parameters}"
    assert same_party(f"sip:{user}@{host}", wrapped.format(text))


@given(st.tuples(USER, HOST), st.tuples(USER, HOST))
def test_two_endpoints_are_the_same_only_if_user_and_host_are(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    """Two colleagues at one company differ by a letter."""
    same = same_party("sip:{}@{}".format(*first), "sip:{}@{}".format(*second))
    assert same == (first == second)


@given(st.binary(min_size=1, max_size=4), st.binary(min_size=1, max_size=4))
def test_users_of_odd_bytes_are_not_confused(first: bytes, second: bytes) -> None:
    """Bytes that are no text would all be read as the same replacement character."""
    spelled = [
        "sip:x" + "".join(f"%{byte:02X}" for byte in one) + "@h"
        for one in (first, second)
    ]
    assert same_party(*spelled) == (first == second)


@pytest.mark.parametrize(
    ("address", "phone"),
    [
        ("+14152225555", "+14152225555"),
        ("sip:sup@H.example", "sup@h.example"),
        ("sip:%73up@h.example", "sup@h.example"),
        ("sips:sup@h.example:5061", "sup@h.example"),
        ("sip:sup@h.example:5060;transport=udp", "sup@h.example"),
        ("sip:sup@h.example:5070", "sup@h.example:5070"),
        ("sip:a%20b@[2001:db8::1]:5060", "a%20b@[2001:db8::1]"),
        ("sip:a@[2001:db8::1]", "a@[2001:db8::1]"),
    ],
)
def test_phone_is_the_same_however_its_address_is_spelled(
    address: str, phone: str
) -> None:
    """A double click in two spellings would ring a supervisor twice."""
    assert phone_of(address) == phone
