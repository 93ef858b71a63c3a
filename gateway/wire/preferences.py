"""
What a client says that it would rather have: C{Accept}, C{Accept-Encoding} and their like (RFC 9110, section 12.4)::

    preferences(["gzip, zstd;q=0.5, br;q=0"])      # {"gzip": 1.0, "zstd": 0.5, "br": 0.0}

What cannot be read is left out, as if it had not been said.
"""

__all__ = ["preferences"]

import re
from collections.abc import Iterable

_MAX_MEMBERS = 64
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def preferences(values: Iterable[str]) -> dict[str, float]:
    """
    @param values: of each line of the header. Of all together the first 64 members count.
    @return: how much each is wanted, by its name in lower case without parameters: from 0, which is not at all, to 1.
    """
    found: dict[str, float] = {}
    for member in ",".join(values).split(",", _MAX_MEMBERS)[:_MAX_MEMBERS]:
        name, *parameters = (each.strip(" \t").lower() for each in member.split(";"))
        weight = next((each.removeprefix("q=") for each in parameters if each.startswith("q=")), "1")
        if name and _WEIGHT.fullmatch(weight):
            found.setdefault(name, float(weight))
    return found
