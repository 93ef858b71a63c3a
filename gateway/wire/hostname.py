"""
What a host name looks like: one rule for every protocol that carries names.

Names are compared and looked up as they are written here, in lower case and in ASCII, so whoever takes one from a peer
folds its case first and refuses what is left over. What a person writes may have other letters, too::

    name = sent.lower()
    if not isHostName(name):
        raise RemoteProtocolError("bad-name", "That is not a host name.")
    foldName("Grüße.example.")              # "xn--gre-6ka8l.example"
"""

__all__ = ["MAX_HOST_NAME", "foldName", "isHostName"]

import re

import idna

MAX_HOST_NAME = 253
"""Characters (RFC 1035, section 2.3.4: 255 bytes, with a length before each label and a zero at the end)."""

# Underscores are in no host name of RFC 952, but in names that are in use, and every resolver takes them.
_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*(?![0-9]+\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


def foldName(text: str) -> str:
    """
    @return: the name in lower case, in ASCII (IDNA 2008 after UTS #46) and without a trailing dot. Whether it is one
        is another question.
    @raise ValueError: letters that no name may have.
    """
    name = text.lower()
    if not name.isascii():
        try:
            name = idna.encode(text, uts46=True).decode("ascii")
        except UnicodeError:
            raise ValueError(f"The host {text!a:.60} is not a valid international name.") from None
    return name.removesuffix(".")


def isHostName(text: str) -> bool:
    """
    Whether this is a host name in lower case: labels of 1 to 63 letters, digits, hyphens and underscores with dots
    between them and none at the end. The last is not a number, so that an IP address is no name (RFC 3696, section 2).
    """
    return len(text) <= MAX_HOST_NAME and _NAME.fullmatch(text) is not None
