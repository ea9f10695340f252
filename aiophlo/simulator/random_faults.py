"""Random faults that don't depend on the order of requests: drawn from a hash."""

import hashlib
import struct
from collections.abc import Mapping
from typing import Final

from aiophlo.simulator.api import Asked
from aiophlo.simulator.faults import Fault
from aiophlo.simulator.scripted_faults import Scripted

_DRAWN: Final = 8  # bytes
_SCALE: Final = float(1 << 8 * _DRAWN)
_NUMBERS: Final = struct.Struct(f">{len(Fault)}I")  # one for each fault, in order


def draw(*about: object) -> float:
    """Return a number from 0 to below 1, always the same for the same arguments."""
    text = "\0".join(map(str, about)).encode()
    digest = hashlib.blake2b(text, digest_size=_DRAWN).digest()
    return int.from_bytes(digest) / _SCALE


def parse_chances(text: str) -> dict[Fault, float]:
    """Read chances from text such as `drop_after_read=0.01,status_503=0.02`.

    Args:
        text: Names of faults with their chances; `all` names each one.

    Raises:
        ValueError: A name is unknown, or a chance is no number from 0 to 1.
    """
    chances: dict[Fault, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, number = part.partition("=")
        chance = _parse_chance(name, number)
        chances |= dict.fromkeys(_parse_faults(name), chance)
    return chances


def _parse_faults(name: str) -> list[Fault]:
    if name == "all":
        return list(Fault)
    try:
        return [Fault(name)]
    except ValueError:
        names = ", ".join(Fault)
        raise ValueError(f"{name} is none of: all, {names}") from None


def _parse_chance(name: str, number: str) -> float:
    try:
        chance = float(number)
    except ValueError:
        chance = -1.0
    if not 0 <= chance <= 1:
        raise ValueError(f"{name} needs a chance from 0 to 1, as in {name}=0.01")
    return chance


class RandomFaults:
    """Faults that strike by chance.

    Whether one strikes is read from a hash of the seed, its kind, the action, the
    address and how often that was asked before: never from the order in which requests
    of different addresses arrive. So a run at another concurrency meets the same.

    Args:
        seed: Seed.
        chances: Chance of each fault, from 0 to 1. Where several would strike, the
            first in the order of `Fault` does.
    """

    def __init__(self, seed: int, chances: Mapping[Fault, float]) -> None:
        self._seed = seed
        self._below = [
            (number, fault, chances[fault] * (1 << 32))
            for number, fault in enumerate(Fault)
            if chances.get(fault)
        ]
        self._asked: dict[int, int] = {}

    def reset(self) -> None:
        """Begin anew: the same requests meet the same faults again."""
        self._asked.clear()

    def next(self, asked: Asked) -> Scripted | None:
        """Return the fault that strikes a request, if one does."""
        if not self._below:
            return None
        about = (asked.action, asked.address or asked.phlo_id)
        key = hash(about)  # the hash takes less memory than what it was made of
        times = self._asked[key] = self._asked.get(key, 0) + 1
        drawn = self._draw(*about, times)
        for number, fault, bound in self._below:
            if drawn[number] < bound:
                return Scripted(fault=fault)
        return None

    def _draw(self, *about: object) -> tuple[int, ...]:
        """Return a number for each fault: one digest costs less than one each."""
        text = "\0".join(map(str, (self._seed, *about))).encode()
        return _NUMBERS.unpack(hashlib.shake_128(text).digest(_NUMBERS.size))
