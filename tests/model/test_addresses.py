"""Addresses: who is dialled, and that nobody reads it in a log."""

import re
import traceback
import unicodedata
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aiophlo.errors import InvalidAddressError
from aiophlo.model import addresses
from aiophlo.model.addresses import NATIONAL_ZERO, parse_address
from aiophlo.model.redaction import mask

NUMBER = "+14155550100"
JUNK = 100_000
WRONG = [
    None,
    True,
    14155550100,
    1.5,
    b"+14155550100",
    ["+14155550100"],
    {"to": "+14155550100"},
    ...,
    "",
    " ",
    "+",
    "14155550100",
    "0014155550100",
    "+04155550100",
    "+141555",  # six digits
    "+1234567890123456",  # sixteen
    "+1415555O100",
    "++14155550100",
    "+14155550100+",
    "+14155550100;ext=5",
    "+14155550100\x00",
    "tel:+14155550100",
    "+١٤١٥٥٥٥٠١٠٠",
    "+\uff11\uff14\uff11\uff15\uff15\uff15\uff10\uff11\uff10\uff10",
    "\ud800+14155550100",
    "9" * 50_000,
    "+" + "9" * 50_000,
    "(" * 50_000,
    "sip:",
    "sip:host",
    "sip:@host",
    "sip:user@",
    "sip:user@host@host",
    "sip:us er@host",
    "sip:user:password@host",
    "sip:user@host/../z?q",
    "sip:user@-host",
    "sip:user@host:123456",
    "sip:user@host?to=x",
    "sip:%zz@host",
    "sip:J\u00fcrgen@host",
    "sip:\u212a@host",  # the Kelvin sign is a "k" to a careless pattern
    "sip:user@\u212a.example",
    "sip:u\u017fer@host",
    "sip:\ud800@host",
    "sip:" + "a" * 50_000 + "@host",
    "sips:user",
    "http://host/",
]


@pytest.mark.parametrize(
    ("written", "address"),
    [
        (NUMBER, NUMBER),
        ("  +1 (415) 555-0100\t", NUMBER),
        ("+1.415.555.0100", NUMBER),
        ("+1 [415] 555\u20110100", NUMBER),
        ("+1\u00a0415\u2013555\u20140100", NUMBER),
        ("+1234567", "+1234567"),
        ("+123456789012345", "+123456789012345"),
        ("+39 06 1234 5678", "+390612345678"),
        ("sip:user@phone.plivo.com", "sip:user@phone.plivo.com"),
        ("SIP:User@Phone.PLIVO.com", "sip:User@phone.plivo.com"),
        ("sips:user@host:5061", "sips:user@host:5061"),
        ("sip:a/b?c%20d@h.example;transport=TLS", None),
        ("sip:user@[2001:DB8::1]:5060", "sip:user@[2001:db8::1]:5060"),
        ("sip:+14155550100@host", None),
        (" sip:user@host\n", "sip:user@host"),
    ],
)
def test_address_takes_its_one_spelling(written: str, address: str | None) -> None:
    """An agent whose number was typed with blanks must still be dialled."""
    assert parse_address(written) == (written if address is None else address)


@pytest.mark.parametrize(
    "case", list(enumerate(WRONG)), ids=lambda case: ascii(case)[:30]
)
def test_wrong_address_is_refused_by_field_and_unshown(
    case: tuple[int, object],
) -> None:
    """A stranger rung for a typing slip, or named in a log, is hurt."""
    with pytest.raises(InvalidAddressError) as caught:
        parse_address(case[1], field="to")
    error = caught.value
    assert error.field == "to"
    assert str(error).startswith("to: ")
    assert "+14152225555" in str(error)  # how it is written
    shown = "".join(traceback.format_exception(error)).replace("+14152225555", "")
    assert not re.search(r"[0-9]{6}|\d{6}", shown.partition("Error: ")[2])
    str(error).encode()


def test_bracketed_zero_is_refused_rather_than_dialled() -> None:
    """`+44 (0)20` with its 0 kept reaches somebody else."""
    for written in ("+44 (0)20 7946 0958", "+44 [ 0 ] 20 7946 0958"):
        with pytest.raises(InvalidAddressError, match="leave out the bracketed 0"):
            parse_address(written)


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("+44 (020) 7946 0958", "44"),
        ("+4402079460958", "44"),
        ("+33 01 42 68 53 01", "33"),
        ("+49-0-30-123456", "49"),
        ("+353 (01) 234 5678", "353"),
        ("+886 02 1234 5678", "886"),
        ("+375 029 123 45 67", "375"),
    ],
)
def test_national_zero_is_refused_with_the_right_spelling(
    written: str, code: str
) -> None:
    """Kept, the 0 rings a stranger: +44 020 is not London."""
    right = f"leave out the national 0 after \\+{code};"
    with pytest.raises(InvalidAddressError, match=right):
        parse_address(written)
    zero = written.index("0", 1 + len(code))
    parse_address(written[:zero] + written[zero + 1 :])


@pytest.mark.parametrize(
    "written",
    [
        "+39 06 1234 5678",  # Italy
        "+378 0549 882 345",  # San Marino
        "+225 07 01 23 45 67",  # Ivory Coast
        "+241 06 12 34 56",  # Gabon
        "+242 06 123 4567",  # Congo
        "+229 01 97 12 34 56",  # Benin
        "+1 000 555 0100",  # has no national 0
    ],
)
def test_zero_that_belongs_to_the_number_stays(written: str) -> None:
    """Without its 0 an Italian office can't be reached."""
    assert parse_address(written) == written.replace(" ", "")


def test_no_country_code_begins_another() -> None:
    """A code that is another's beginning would be refused a 0 of its own."""
    for code in NATIONAL_ZERO:
        assert not {code[:1], code[:2]} & (NATIONAL_ZERO - {code})
        assert not {code[:1], code[:2], code} & KEEP_ZERO


# Where numbers begin with 0, by libphonenumber 9.0.43: an Italian, San Marinese,
# Ivorian, Burkinabe, Nigerien, Beninese, Gabonese, Congolese or Tajik one, say.
KEEP_ZERO = {"39", "47", "225", "226", "227", "229", "241", "242", "247", "378", "992"}


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("0014155550100", "write '\\+' for 00"),
        ("00 1 (415) 555-0100", "write '\\+' for 00"),
        ("+0014155550100", "write '\\+' for 00"),
        ("'+14155550100", "apostrophe"),
        ("\u2019+14155550100", "apostrophe"),
        ("'14155550100", "apostrophe"),
        ("020 7946 0958", "'\\+' and the country code"),
        ("+14155550123.0", "spreadsheet"),
        ("14155550123.00", "spreadsheet"),
    ],
)
def test_common_mistake_is_named(written: str, wrong: str) -> None:
    """Who mends a list of a thousand rows needs to know what to replace."""
    with pytest.raises(InvalidAddressError, match=wrong):
        parse_address(written)


@pytest.mark.parametrize(
    "character",
    [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) == "Cf"]
    + ["\ufe0f", "\u034f", "\u3164", "\u2065"],
    ids=ascii,
)
def test_invisible_character_is_dropped(character: str) -> None:
    """A number pasted from a page or a chat looks right, and must be."""
    for written in (NUMBER, "sip:bob@phone.plivo.com"):
        assert parse_address(f"{character} {written}{character}") == written
        assert parse_address(f"{written[:4]}{character}{written[4:]}") == written


@pytest.mark.parametrize(
    "dash",
    [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) == "Pd"]
    + ["\u2212", "\u2043", "\u02d7"],
    ids=ascii,
)
def test_any_dash_is_a_dash(dash: str) -> None:
    """Claim processors make a minus or a figure dash of what was typed."""
    assert parse_address(f"+1{dash}415{dash}555{dash}0100") == NUMBER


def test_dotted_number_that_ends_in_zeros_is_no_decimal() -> None:
    """This is how every Parisian writes a number."""
    assert parse_address("+33.1.42.68.53.00") == "+33142685300"


def test_missing_plus_is_named() -> None:
    """Without its `+` an American number is a Swiss one: say what to add."""
    with pytest.raises(InvalidAddressError, match="'\\+' is missing"):
        parse_address("14155550100")


@given(st.integers(1, 9), st.text("0123456789", min_size=6, max_size=14))
def test_every_e164_number_is_itself(first: int, rest: str) -> None:
    """A caller whose number is rare, but right, must be reachable."""
    number = f"+{first}{rest}"
    assume(not any(number.startswith(f"+{code}0") for code in NATIONAL_ZERO))
    assert parse_address(number) == number
    assert mask(number) == f"…{number[-2:]}"


@given(st.text(max_size=300) | st.text("+0123456789 ().-[]", max_size=40))
def test_any_text_is_canonical_or_refused(text: str) -> None:
    """A third way out would reach a path of the API unchecked."""
    try:
        address = parse_address(text)
    except InvalidAddressError:
        return
    assert parse_address(address) == address
    assert re.fullmatch(r"\+[1-9][0-9]{6,14}|sips?:[!-~]+@[!-~]+", address)


def test_long_text_is_never_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on every pattern's work is the length of what it is given."""
    searched: list[int] = []

    class Spy:
        def __init__(self, pattern: re.Pattern[str]) -> None:
            self.pattern = pattern

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- any method
            method = getattr(self.pattern, name)

            def call(*args: str) -> object:
                searched.append(len(args[-1]))
                return method(*args)

            return call

    for name in ("_SEPARATORS", "_TRUNK_ZERO", "_NUMBER", "_SIP"):
        pattern = getattr(addresses, name)
        monkeypatch.setattr(f"aiophlo.model.addresses.{name}", Spy(pattern))
    for text in (f"+{'1 ' * JUNK}", f"sip:{'a' * JUNK}@b", "+" + "1" * 254, "1" * 256):
        with pytest.raises(InvalidAddressError):
            parse_address(text)
    assert searched
    assert max(searched) <= 255


@pytest.mark.parametrize("number", ["+14155550123.0", "+14155550123.00"])
def test_decimals_of_a_spreadsheet_are_refused(number: str) -> None:
    """A column that was read as numbers must not dial strangers."""
    with pytest.raises(InvalidAddressError, match="spreadsheet"):
        parse_address(number)
    assert parse_address(number.rpartition(".")[0]) == "+14155550123"
