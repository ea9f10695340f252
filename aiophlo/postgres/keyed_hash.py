"""Keyed hashes of parties: nobody without the account's token can make or guess one."""

import hashlib
from collections.abc import Iterable

from aiophlo.model.accounts import Account


def secret_of(account: Account) -> bytes:
    """Return the key of an account's hashes."""
    return hashlib.sha256(account.auth_token.encode()).digest()


def common_secret(
    purpose: str, accounts: Iterable[Account], secret: str | None
) -> bytes:
    """Return a key of hashes that several accounts have in common.

    Args:
        purpose: What is hashed; those of different purposes don't match.
        accounts: All that a pool has.
        secret: What all pools share besides; None for the accounts' tokens.
    """
    tokens = sorted(account.auth_token for account in accounts)
    text = "\0".join(tokens) if secret is None else secret
    # There may be lone surrogates in an environment.
    return hashlib.sha256(f"{purpose}\0{text}".encode(errors="surrogatepass")).digest()


def keyed_hash(secret: bytes, *words: str) -> int:
    """Return a signed number of 64 bits."""
    text = "\0".join(words).encode()
    digest = hashlib.blake2b(text, key=secret, digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
