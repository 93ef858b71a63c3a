"""
What the gateway's doors see of an attached agent, whichever dialect it speaks.
"""

__all__ = ["IAgentSession", "IHttpSession", "SessionFacts", "Visitor"]

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import Attribute, Interface

from gateway.domain.attachment import IAttachment
from gateway.domain.routes import Place
from gateway.domain.targets import Target
from gateway.net.httpinterfaces import IOriginConnection
from gateway.wire.agentcontrol import Service
from gateway.wire.proxyheader import Address, ProxyHeader, Tlv


@dataclass(frozen=True, slots=True)
class Visitor:
    """
    Who came to a door, as the origin may know.

    @ivar source: the visitor's own address; C{None} when it has none, as on a UNIX socket.
    @ivar door: the address that they came to.
    @ivar hostname: that they asked for, normalised; C{None} at a door that knows none.
    @ivar alpn: the protocol that was agreed on where TLS was terminated.
    @ivar id: of this visit, in every log on its way.
    """

    source: Address | None
    door: Address | None
    hostname: str | None = None
    alpn: bytes | None = None
    isDatagram: bool = False
    id: bytes = field(default_factory=lambda: os.urandom(8).hex().encode())

    @property
    def host(self) -> str:
        """For limits and logs."""
        return "unix" if self.source is None else str(self.source.host)

    def header(self) -> ProxyHeader:
        """As the PROXY protocol tells it."""
        tlvs = [(int(Tlv.UNIQUE_ID), self.id)]
        if self.hostname is not None:
            tlvs.append((int(Tlv.AUTHORITY), self.hostname.encode("ascii")))
        if self.alpn is not None:
            tlvs.append((int(Tlv.ALPN), self.alpn))
        return ProxyHeader(self.source, self.door, self.isDatagram, False, tuple(tlvs))


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """
    What there is to tell of a session.

    @ivar peer: the agent's address.
    @ivar carrier: C{tls}, C{websocket} or C{plain}, and the dialect where it is not ours.
    @ivar seconds: since it attached.
    @ivar lastPing: seconds since the agent last answered a ping; C{None}: not yet.
    @ivar rtt: seconds, the shortest seen; C{None}: not known yet.
    @ivar streams: open now.
    @ivar up: payload bytes from visitors to the agent, of ended streams.
    @ivar down: the other way.
    """

    agent: str
    replica: str
    software: str
    peer: str
    carrier: str
    seconds: float
    lastPing: float | None
    rtt: float | None
    streams: int
    up: int
    down: int
    places: Sequence[Place]


class IAgentSession(IAttachment):
    """One attached agent."""

    rates = Attribute(
        "How fast its streams may go, all together: L{TokenBucket<gateway.domain.limits.TokenBucket>}s of bytes, up and"
        " down; C{None}: as fast as they can."
    )

    takesTargets = Attribute("Whether the agent lets us name targets behind it.")

    def endpointFor(service: Service, visitor: Visitor) -> IStreamClientEndpoint:
        """
        @return: dials the origin of a service. Fails with L{DialFailed<gateway.net.dial.DialFailed>}: C{UNAVAILABLE}
            when this session can take no stream, so that another replica may.
        """

    def targetEndpoint(target: Target, visitor: Visitor) -> IStreamClientEndpoint:
        """
        @return: dials a target from where the agent is, if the agent lets us.
        """

    def moved(up: int, down: int) -> None:
        """A visit is over that moved so many bytes."""

    def facts() -> SessionFacts:
        """What there is to tell now."""

    def end(code: str, details: str) -> None:
        """End the session at once, and tell the agent why."""

    def drain(seconds: float, reason: str) -> None:
        """Take no new streams, and tell the agent that the session ends in so many seconds."""


class IHttpSession(IAgentSession):
    """A session in a dialect that carries requests and responses, and no streams."""

    def originFor(service: Service, visitor: Visitor) -> IOriginConnection:
        """
        @return: takes one request to a service.
        """


class IClient(Interface):
    """Whoever opens streams: an agent's session, or something that is as good for this."""

    agent = Attribute("The name of who it is.")
    replica = Attribute("Which of several processes of that name it is.")
    rates = Attribute("As of an L{IAgentSession}.")

    def checkStream(host: str, port: int) -> None:
        """
        A stream is to lead to a name.

        @raise DialFailed: it may not.
        @raise RemoteProtocolError: there are too many.
        """

    def moved(up: int, down: int) -> None:
        """A stream is over that moved so many bytes."""
