"""The simulator signs as Plivo does."""

import pytest

from aiophlo.simulator.signing import Fields, sign_v3

TOKEN = "MjM0NTY3ODkwYWJjZGVmZ2hpams"  # noqa: S105 -- the published vectors' own
URL = "https://cc.example.com/phlo/events"
CALL_UUID = "c0ffee00-1111-2222-3333-444455556666"
NONCE = "12345678901234567890"


@pytest.mark.parametrize(
    ("url", "fields", "nonce", "signature"),
    [
        (
            f"{URL}?b=2&a=1&CallUUID={CALL_UUID}&From=%2B14155550100",
            {},
            NONCE,
            "fSTCl54+nPoWKQy1c/mS7lXW99hYnAQrPAcUzR1Jnb4=",
        ),
        (
            URL,
            {
                "To": "+14155550101",
                "From": "+14155550100",
                "CallStatus": "completed",
                "Duration": "42",
            },
            NONCE,
            "5SpBGX1cah4a6dhC9WpQe8MkcJc+bkDN3bAOCAI9zfc=",
        ),
        (
            f"{URL}?tenant=acme&b=x%20y",
            {"Digits": ["2", "1"], "Name": "José Ñ", "Empty": ""},
            "05429567804466091622",
            "H6EGi+4gjqVuTAUvLtkPIpePMd4FrQOj4J87KGjoDVY=",
        ),
        (URL, {}, NONCE, "JdfiIwmfSTgzwej5k+vzewXwUngWZH96d6c82XEiigQ="),
    ],
    ids=["get", "form", "query and form", "nothing"],
)
def test_signature_is_that_of_the_official_sdks(
    url: str, fields: Fields, nonce: str, signature: str
) -> None:
    """A receiver tested against a wrong signature would refuse Plivo's."""
    assert sign_v3(TOKEN, url, nonce, fields) == signature
