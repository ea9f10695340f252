"""Names for parties that only who has the account's token can make, or guess."""

import hashlib

from aiophlo.model.accounts import Account


def secret_of(account: Account) -> bytes:
    """Return the key of an account's hashes."""
    return hashlib.sha256(account.auth_token.encode()).digest()


def keyed_hash(secret: bytes, *words: str) -> int:
    """Return a signed number of 64 bits."""
    text = "\0".join(words).encode()
    digest = hashlib.blake2b(text, key=secret, digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
