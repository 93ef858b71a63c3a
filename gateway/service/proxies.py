"""
HTTP proxies in front, which say for whom they come::

    proxies = TrustedProxies([ip_network("127.0.0.0/8")])
    host = proxies.visitor(head, "127.0.0.1")           # that of X-Forwarded-For, if the proxy says one
"""

__all__ = ["LOOPBACK", "TrustedProxies"]

from collections.abc import Sequence
from ipaddress import ip_network

from gateway.domain.addresses import IPAddress, IPNetwork, parseAddress
from gateway.service.listening import UNIX
from gateway.wire.http1 import RequestHead

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1"))
"""This machine, where a proxy often is."""


class TrustedProxies:
    """
    @param networks: from which C{X-Forwarded-For} is believed.
    """

    def __init__(self, networks: Sequence[IPNetwork]) -> None:
        self._networks = tuple(networks)

    def includes(self, host: str) -> bool:
        """Whether an address is that of a proxy, and so of many people."""
        if host == UNIX:
            return True  # whoever may open the socket's path was let in by its permissions
        address = parseAddress(host)
        # A socket for IPv6 and IPv4 sees IPv4 peers as mapped addresses.
        address = getattr(address, "ipv4_mapped", None) or address
        return address is not None and any(address in network for network in self._networks)

    def visitor(self, head: RequestHead, host: str) -> str:
        """
        Who is behind a proxy: the last forwarded address that is not itself one.

        @param host: whose connection it is.
        """
        if not self.includes(host):
            return host
        forwarded = ",".join(value for name, value in head.headers if name == "x-forwarded-for")
        for each in reversed([entry.strip() for entry in forwarded.split(",")]):
            address = _forwardedAddress(each)
            if address is None:
                break
            host = str(address)
            if not self.includes(host):
                break
        return host

    def client(self, head: RequestHead, host: str) -> str:
        """
        Whose address counts against limits and for bans.

        @return: no address where a proxy does not tell its clients apart, so that nobody is shut out with it.
        """
        host = self.visitor(head, host)
        return f"proxy {host}" if self.includes(host) else host


def _forwardedAddress(entry: str) -> IPAddress | None:
    """An entry of X-Forwarded-For, which some proxies write with the port."""
    if "%" in entry:
        return None  # a zone id may be any text, and logs would show it
    if (address := parseAddress(entry)) is not None:
        return address
    if entry.startswith("["):
        return parseAddress(entry[1:].partition("]")[0])
    host, _, port = entry.rpartition(":")
    return parseAddress(host) if port.isdigit() else None
