"""Base URL and proxy: as given, else from the process's environment."""

import os
from urllib.request import getproxies_environment, proxy_bypass

from yarl import URL

from aiophlo.protocol.validation import check_base_url, check_proxy

BASE_URL = "https://phlorunner.plivo.com/v1"
VOICE_URL = "https://api.plivo.com/v1"
BASE_URL_VARIABLE = "AIOPHLO_BASE_URL"


def base_url_from_environment() -> str | None:
    """Return `AIOPHLO_BASE_URL`; None where it is not set or empty."""
    return os.environ.get(BASE_URL_VARIABLE, "").strip() or None


def proxy_from_environment(base_url: str) -> tuple[str, str] | None:
    """Return the proxy that is meant for `base_url`, and the variable that names it.

    None where there is none, or `NO_PROXY` excepts the host. As in curl, a proxy
    without a scheme is http://.

    Args:
        base_url: Where the API is.
    """
    url = URL(base_url)
    found = getproxies_environment()
    for kind in (url.scheme, "all"):
        proxy = found.get(kind, "").strip()
        if proxy and not proxy_bypass(f"{url.host}:{url.port}"):
            name = f"{kind.upper()}_PROXY"
            return name, proxy if "://" in proxy else f"http://{proxy}"
    return None


def resolve_base_url(given: str | None, *, allow_plaintext: bool) -> str:
    """Return the base URL: the one given, the environment's, or Plivo's.

    Args:
        given: As `SessionPool` got it.
        allow_plaintext: It may be http:// on another machine.
    """
    name = "base_url"
    if given is None:
        given, name = base_url_from_environment(), BASE_URL_VARIABLE
    return check_base_url(
        BASE_URL if given is None else given,
        example=BASE_URL,
        name=name,
        allow_plaintext=allow_plaintext,
    )


def resolve_voice_url(
    given: str | None, *, base_url: str, allow_plaintext: bool
) -> str:
    """Return the URL of the Voice API, which lists calls: the one given, or Plivo's.

    Where the PHLO API is not Plivo's own, it is at the same place by default, as the
    simulator's is.

    Args:
        given: As `SessionPool` got it.
        base_url: Where the PHLO API is.
        allow_plaintext: It may be http:// on another machine.
    """
    default = VOICE_URL if base_url == BASE_URL else base_url
    return check_base_url(
        default if given is None else given,
        example=VOICE_URL,
        name="voice_url",
        allow_plaintext=allow_plaintext,
    )


def resolve_proxy(
    given: str | None, *, base_url: str, trust_env: bool, allow_plaintext: bool
) -> str | None:
    """Return the URL of the proxy: the one given, or the environment's.

    Args:
        given: As `SessionPool` got it.
        base_url: Where the API is.
        trust_env: Take it from the environment if none is given.
        allow_plaintext: The proxy may read the account's credentials.
    """
    name = "proxy"
    # What is asked of this machine itself is asked of no proxy.
    may_have_one = allow_plaintext or base_url.startswith("https:")
    if given is None and trust_env and may_have_one:
        name, given = proxy_from_environment(base_url) or (name, None)
    return check_proxy(
        given, base_url=base_url, name=name, allow_plaintext=allow_plaintext
    )
