"""
What a host can be: one spelling for each name and address, and what an address really leads to.

A rule is only as good as the spelling it is compared with. C{127.1}, C{::ffff:7f00:1} and C{64:ff9b::7f00:1}
all lead to 127.0.0.1, so that whoever decides about a host reduces it to its one form first::

    normaliseHost("Bücher.Example.")            # "xn--bcher-kva.example"
    unwrap(IPv6Address("64:ff9b::7f00:1"))      # IPv4Address("127.0.0.1")
    classify(IPv4Address("169.254.169.254"))    # the class "cloud metadata"

The tables are spelled out because C{ipaddress} draws the lines of C{is_private} and its like differently
from one Python release to the next.
"""

__all__ = [
    "AddressClass",
    "IPAddress",
    "IPNetwork",
    "classify",
    "hostOf",
    "joinPort",
    "normaliseHost",
    "parseAddress",
    "parsePort",
    "readings",
    "unwrap",
]

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.wire.hostname import foldName

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class AddressClass:
    """
    A kind of address that no visitor should reach by accident.

    @ivar name: as people say it, e.g. C{link-local addresses}.
    @ivar networks: the ranges, from the IANA special-purpose address registries unless noted.
    @ivar local: True for the addresses of one's own machine and network, which are proper targets for the
        visitors that one knows; False for those that are nobody's proper target.
    """

    name: str
    networks: tuple[IPNetwork, ...]
    local: bool = False

    def holds(self, network: IPNetwork) -> bool:
        """Whether all of a network is of this kind."""
        return any(network[0] in each and network[-1] in each for each in self.networks)


def _class(name: str, *networks: str, local: bool = False) -> AddressClass:
    return AddressClass(name, tuple(ip_network(network) for network in networks), local)


# In order: the first class that holds an address names it, so that the metadata services come before the
# link-local, shared and private ranges in which they lie.
_CLASSES = (
    _class(
        "cloud metadata",
        "169.254.169.254",  # nearly every cloud
        "168.63.129.16",  # Azure's wire server
        "192.0.0.192",  # Oracle, classic
        "100.100.100.200",  # Alibaba
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS, pod identity
        "fd20:ce::254",  # Google
        "fd00:c1::a9fe:a9fe",  # Oracle
        "fd00:42::42",  # Scaleway
    ),
    _class("link-local addresses", "169.254.0.0/16", "fe80::/10"),
    _class("multicast addresses", "224.0.0.0/4", "ff00::/8"),
    _class("unspecified addresses", "0.0.0.0/8", "::"),
    _class("broadcast and reserved addresses", "240.0.0.0/4"),
    _class("loopback addresses", "127.0.0.0/8", "::1", local=True),
    _class(
        "private addresses",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
        "fec0::/10",  # site-local, deprecated by RFC 3879 and still routed
        local=True,
    ),
    _class("shared addresses", "100.64.0.0/10", local=True),
    _class("benchmark addresses", "198.18.0.0/15", local=True),
)


_REMEMBERED = 4096
"""Addresses whose parsing and classification are remembered: the same few hosts are asked for again and again."""


@lru_cache(_REMEMBERED)
def classify(address: IPAddress) -> AddressClass | None:
    """
    Name the class of an address, taken as it is: see L{readings} for what it may lead to.

    @return: the class, or C{None} for an ordinary address.
    """
    for kind in _CLASSES:
        if any(address in network for network in kind.networks):
            return kind
    return None


# IPv6 prefixes under which an IPv4 address travels, each with the number of bits to its right, and whether
# its bits are inverted. `::` and `::1` are addresses in their own right and are left out by hand.
_EMBEDDINGS = (
    (IPv6Network("::ffff:0:0/96"), 0, False),  # IPv4-mapped, RFC 4291 section 2.5.5.2
    (IPv6Network("::ffff:0:0:0/96"), 0, False),  # IPv4-translated, RFC 2765
    (IPv6Network("::/96"), 0, False),  # IPv4-compatible, RFC 4291 section 2.5.5.1
    (IPv6Network("64:ff9b::/96"), 0, False),  # NAT64, RFC 6052
    (IPv6Network("2002::/16"), 80, False),  # 6to4, RFC 3056
    (IPv6Network("2001::/32"), 0, True),  # Teredo, RFC 4380
)
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")  # RFC 8215


@lru_cache(_REMEMBERED)
def readings(address: IPAddress) -> tuple[IPAddress, ...]:
    """
    List every address that a connection to this one may lead to, zone ids dropped.

    Mostly that is one: the address itself, or the IPv4 address that it wraps. It is more where the wrapping
    cannot be told for certain:

      - ISATAP (RFC 5214) marks the interface identifier only, so that under any prefix the address may just
        as well be an ordinary one;
      - the local NAT64 prefix (RFC 8215) is laid out by RFC 6052 for 48 bits, or is divided into longer
        ones, of which /96 is the usual. The first leaves the last 32 bits zero.

    @return: at least one address; an embedded IPv4 address comes before the address itself.
    """
    if isinstance(address, IPv4Address):
        return (address,)
    value = int(address)
    if value <= 1:
        return (IPv6Address(value),)
    found: list[IPAddress] = []
    for network, shift, inverted in _EMBEDDINGS:
        if address in network:
            found.append(_low32(~value if inverted else value >> shift))
    if address in _LOCAL_NAT64:
        # RFC 6052 section 2.2: bits 64 to 71 are skipped.
        found.append(_low32((value >> 48 & 0xFFFF0000) | (value >> 40 & 0xFFFF)))
        if value & 0xFFFFFFFF:
            found.append(_low32(value))
    certain = bool(found)
    if value >> 32 & 0xFDFFFFFF == 0x5EFE:  # 0:5efe or 200:5efe
        found.append(_low32(value))
    if not certain:
        found.append(IPv6Address(value))
    return tuple(found)


def _low32(value: int) -> IPv4Address:
    return IPv4Address(value & 0xFFFFFFFF)


def unwrap(address: IPAddress) -> IPAddress:
    """
    Take the IPv4 address out of an IPv6 address that carries one: IPv4-mapped, -translated and -compatible,
    6to4, NAT64, Teredo (the client) and ISATAP. Any other address is returned as it is, without zone id.
    """
    return readings(address)[0]


# inet_aton(3): hexadecimal with 0x, octal with a leading 0, decimal.
_NUMBER = re.compile(r"0x[0-9a-f]+|0[0-7]*|[1-9][0-9]*")
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")


def _parseIPv4(text: str) -> IPv4Address | None:
    """
    Read an IPv4 address as inet_aton(3) does, but strictly: one to four numbers, the last of which fills the
    octets that are left, and nothing after it.
    """
    parts = text.split(".")
    if not all(map(_NUMBER.fullmatch, parts)):
        return None
    *octets, rest = (int(part, 16 if part[:2] == "0x" else 8 if part[0] == "0" else 10) for part in parts)
    if len(octets) > 3 or any(octet > 0xFF for octet in octets) or rest >= 1 << 8 * (4 - len(octets)):
        return None
    return IPv4Address(int.from_bytes(bytes(octets).ljust(4, b"\0")) + rest)


# What a host may never hold, whatever becomes of it: in some other place each of these ends or splits a name.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f/\\@?#%]")
# Underscores are not host names by RFC 952, but container networks are full of them.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def normaliseHost(text: str) -> str:
    """
    Bring a host name or address into its one form.

    A name comes out in lower case, in ASCII (IDNA 2008 after UTS #46) and without a trailing dot. An IPv4
    address comes out as a dotted quad however inet_aton(3) would have taken it (C{127.1}, C{0x7f.1},
    C{2130706433}), and so does an IPv4-mapped IPv6 address; an IPv6 address, in brackets or not, in the form
    of RFC 5952.

    @param text: at most 253 characters.
    @raise ValueError: with a sentence that names the fault. What looks like an IPv4 address without being
        one is a fault too, and no name: resolvers do not agree about it.
    """
    shown = f"{text!a:.60}"
    if not text:
        raise ValueError("The host is empty.")
    if len(text) > 253:
        raise ValueError(f"The host {shown} is longer than 253 characters.")
    if ":" in text:
        return str(_parseIPv6(text, shown))
    if found := _FORBIDDEN.search(text):
        raise ValueError(f"The host {shown} holds {found[0]!a}, which no host may hold.")
    name = foldName(text)
    if _ENDS_IN_NUMBER.fullmatch(name):
        address = _parseIPv4(name)
        if address is None:
            raise ValueError(f"The host {shown} looks like an IPv4 address but is not one.")
        return str(address)
    if len(name) > 253:
        raise ValueError(f"The host {shown} is longer than 253 characters.")
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            raise ValueError(f"The host {shown} is not a valid name: {label!a:.66} is not a label.")
    return name


def _parseIPv6(text: str, shown: str) -> IPAddress:
    if "%" in text:
        raise ValueError(f"The host {shown} has a zone id, which is refused.")
    try:
        address = IPv6Address(text[1:-1] if text[0] + text[-1] == "[]" else text)
    except ValueError:
        raise ValueError(f"The host {shown} is not a valid IPv6 address.") from None
    return address.ipv4_mapped or address


@lru_cache(_REMEMBERED)
def parseAddress(host: str) -> IPAddress | None:
    """
    Tell an address from a name.

    @param host: as L{normaliseHost} returns it.
    @return: the address, or C{None} when the host is a name.
    """
    try:
        return ip_address(host)
    except ValueError:
        return None


_PORT = re.compile(r"[1-9][0-9]{0,4}")


def hostOf(authority: str) -> str:
    """
    @param authority: C{HOST} or C{HOST:PORT}, as in a Host header.
    @return: the name or address, normalised.
    @raise ValueError: it is none, with a sentence that says why. What is not ASCII would be a name to us, and another
        one or none to others.
    """
    host, colon, port = authority.rpartition(":")
    if not colon or port.endswith("]"):
        host = authority
    elif not port.isdigit():
        raise ValueError(f"{port!a:.20} is no port.")
    if not host.isascii():
        raise ValueError(f"{host!a:.80} is not in ASCII.")
    return normaliseHost(host)


def joinPort(host: str, port: int) -> str:
    """
    @param host: a name, or an address without brackets.
    @return: C{host:port}, with brackets around an IPv6 address (RFC 3986, section 3.2.2).
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parsePort(text: str) -> int:
    """
    Read a port.

    @raise ValueError: it is not a plain number from 1 to 65535, with a sentence that says so.
    """
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ValueError(f"A port is a number from 1 to 65535, not {text!a:.20}.")
    return int(text)
