"""
An input from others, which keeps most of their structure::

    data = mutated(Random(1), corpus("http1"), tokens)

An input is cut into the target's units. Whole units are moved, doubled, dropped and taken over from other inputs; within
one, bits and lengths change; and at times the end is cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

LENGTHS = (0, 1, 2, 11, 12, 255, 65535, 65536, 2**18 - 1, 2**18, 2**18 + 1, 2**24, 2**31, 2**32 - 1)


def mutated(random: Random, known: Sequence[bytes], units: Callable[[bytes], list[bytes]], limit: int) -> bytes:
    """
    @param known: what to start from.
    @param limit: the longest result, in bytes.
    """
    pieces = units(random.choice(known)) or [b""]
    for _ in range(random.choice((1, 1, 2, 3, 5, 8))):
        at = random.randrange(len(pieces))
        match random.randrange(8):
            case 0:
                del pieces[at]
            case 1:
                pieces[at:at] = [pieces[at]] * random.choice((1, 1, 2, 20))
            case 2:
                other = random.randrange(len(pieces))
                pieces[at], pieces[other] = pieces[other], pieces[at]
            case 3 | 4:
                others = units(random.choice(known))
                start = random.randrange(len(others) + 1)
                pieces[at:at] = others[start : start + random.choice((1, 1, 4, len(others)))]
            case 5:
                del pieces[at:][random.randrange(1, 3) :]
            case _:
                pieces[at] = _changed(random, pieces[at])
        pieces = pieces or [b""]
    data = b"".join(pieces)
    return data[: random.randrange(len(data) + 1) if random.random() < 0.1 else limit][:limit]


def _changed(random: Random, unit: bytes) -> bytes:
    """One unit, with a few bits or a number changed."""
    data = bytearray(unit or b"\x00")
    at = random.randrange(len(data))
    match random.randrange(5):
        case 0:
            data[at] ^= 1 << random.randrange(8)
        case 1:
            data[at] = random.choice((0, 1, 2, 4, 8, 127, 128, 255, random.randrange(256)))
        case 2:  # a big-endian number, where numbers tend to be
            width = random.choice((1, 2, 4))
            at -= at % width
            data[at : at + width] = (random.choice(LENGTHS) % 256**width).to_bytes(width, "big")
        case 3:
            data[at:at] = data[at : at + random.randrange(1, 9)]
        case _:
            del data[at : at + random.randrange(1, 5)]
    return bytes(data)
