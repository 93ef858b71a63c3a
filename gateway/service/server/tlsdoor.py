"""
The public TLS port: where a visitor goes is decided by the server name in the first bytes.

The gateway's own names lead to its site and to its agents; a name that an agent serves leads to that agent, with the
TLS untouched or ended here, as the service wants it. Everybody else is told that nobody serves the name: by a page of
the HTTP door's where there is a certificate for it, and otherwise in TLS's words::

    door = TlsDoor(reactor, registry, visitors, certificates, agents, http, settings=...)
    factory = Arrivals(door.arrive, clock=reactor)
"""

__all__ = ["TlsDoor", "TlsDoorSettings"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.protocols.tls import TLSMemoryBIOProtocol

from gateway.domain.access import EVERYBODY, AccessRules
from gateway.domain.addresses import parseAddress
from gateway.domain.limits import Ticket
from gateway.domain.registry import Registry
from gateway.net.dial import DialFailed
from gateway.net.handshake import Handshake
from gateway.net.peek import Peek
from gateway.net.tlsserver import TLSServerFactory
from gateway.service.pages import errorPage
from gateway.service.server.agentdoor import AgentDoor
from gateway.service.server.attached import Visitor
from gateway.service.server.certificates import CARRIER, HTTP, NOBODYS, OWN, RAW, Certificates
from gateway.service.server.farewell import Farewell
from gateway.service.server.httpdoor import HttpDoor
from gateway.service.server.turnedaway import turnedAway
from gateway.service.server.visitors import Visitors
from gateway.wire.clienthello import LIMIT, Alert, ClientHello, ClientHelloReader, Code, HelloRefused, alert

DOOR = "tls"
"""What metrics and logs call it."""


@dataclass(frozen=True, slots=True)
class TlsDoorSettings:
    """
    What the door is told.

    @ivar publicHost: the gateway's own name; may be empty, or an address.
    @ivar helloTimeout: seconds for the ClientHello.
    @ivar handshakeTimeout: seconds for a handshake that is made here.
    """

    publicHost: str = ""
    helloTimeout: float = 5.0
    handshakeTimeout: float = 10.0


class TlsDoor:
    """
    @param agents: who takes agents that come to this port.
    @param http: who takes HTTP once its TLS was ended.
    @ivar access: who may come.
    """

    def __init__(
        self,
        clock: IReactorTime,
        registry: Registry,
        visitors: Visitors,
        certificates: Certificates,
        agents: AgentDoor,
        http: HttpDoor,
        *,
        settings: TlsDoorSettings,
        access: AccessRules = EVERYBODY,
    ) -> None:
        self.clock = clock
        self.registry = registry
        self.visitors = visitors
        self.certificates = certificates
        self.agents = agents
        self.http = http
        self.settings = settings
        self.access = access

    def arrive(self, visitor: Visitor) -> IProtocol | None:
        """
        A visitor has come.

        @return: C{None} to drop the connection.
        """
        isFront = self.http.trusts(visitor.source)
        ticket = self.visitors.admit(visitor.host, self.access, DOOR, isFront=isFront)
        return None if ticket is None else _TlsVisit(self, visitor, ticket).peek


class _TlsVisit:
    """One connection, until it is somebody else's."""

    def __init__(self, door: TlsDoor, visitor: Visitor, ticket: Ticket) -> None:
        self._door = door
        self._visitor = visitor
        self._ticket = ticket
        self._reader = ClientHelloReader()
        self.peek = Peek(
            self._decide,
            self._refused,
            clock=door.clock,
            limit=LIMIT,
            timeout=door.settings.helloTimeout,
            lost=ticket.release,
        )

    def _refused(self, problem: str | Exception) -> None:
        turnedAway(DOOR, self._visitor.host, problem)

    def _farewell(self, words: bytes) -> IProtocol:
        return Farewell(words, self._door.clock)

    def _decide(self, data: bytes) -> IProtocol | None:
        try:
            hello = self._reader.read(data)
        except HelloRefused as e:
            self._refused(e.details)
            return self._farewell(errorPage(400, e.details).encode() if e.code == Code.PLAIN_HTTP else e.alert)
        return None if hello is None else self._lead(hello)

    def _lead(self, hello: ClientHello) -> IProtocol:
        name = hello.serverName
        own = self._door.settings.publicHost
        # Who goes by an address cannot name anybody (RFC 6066, section 3), and means the gateway.
        if name is None or name == own:
            return self._terminate(own, OWN, "", self._own)
        self._visitor = replace(self._visitor, hostname=name)
        route = self._door.registry.host(name)
        if route is None:
            return self._nobodys(name, hello)
        if route.service.kind == "http":
            agent = route.agent
            return self._terminate(name, HTTP, str(route.place), lambda tls: self._http(agent, tls))
        if route.service.tls == "terminate":
            return self._terminate(name, RAW, str(route.place), lambda tls: self._raw(name))
        visit = self._door.visitors.visit(route, self._visitor, self._ticket, refusal=_tlsRefusal)
        return visit or self._farewell(alert(Alert.INTERNAL_ERROR))

    def _nobodys(self, name: str, hello: ClientHello) -> IProtocol:
        former = self._door.registry.former(name)
        # What was passed through was not meant for us, and who speaks another protocol would not read a page.
        isHTTP = former is None or former.kind == "http"
        speaksHTTP = not hello.protocols or any(each in HTTP for each in hello.protocols)
        tls = self._door.certificates.find(name, HTTP, NOBODYS) if isHTTP and speaksHTTP else None
        if tls is None:
            self._refused(f"nobody serves {name}")
            return self._farewell(alert(Alert.UNRECOGNIZED_NAME))
        return self._shakeHands(tls, lambda tls: self._http("", tls))

    def _terminate(
        self,
        name: str,
        protocols: Sequence[bytes],
        scope: str,
        decide: Callable[[TLSMemoryBIOProtocol], IProtocol | None],
    ) -> IProtocol:
        tls = self._door.certificates.find("" if parseAddress(name) else name, protocols, scope)
        if tls is None:
            self._refused(f"there is no certificate for {name}")
            return self._farewell(alert(Alert.INTERNAL_ERROR))
        return self._shakeHands(tls, decide)

    def _shakeHands(
        self, tls: TLSServerFactory, decide: Callable[[TLSMemoryBIOProtocol], IProtocol | None]
    ) -> IProtocol:
        timeout = self._door.settings.handshakeTimeout
        return tls.protocol(tls, Handshake(decide, self._refused, clock=self._door.clock, timeout=timeout))

    # -- After the handshake

    def _own(self, tls: TLSMemoryBIOProtocol) -> IProtocol | None:
        if tls.negotiatedProtocol in CARRIER:
            self._ticket.release()  # an agent is no visitor
            return self._door.agents.arrive(self._visitor.host, "tls")
        visitor = replace(self._visitor, alpn=tls.negotiatedProtocol)
        return self._door.http.serve(visitor, self._ticket, isOwn=True)

    def _raw(self, name: str) -> IProtocol | None:
        route = self._door.registry.host(name)  # again: an agent may have come or gone meanwhile
        if route is None or route.service.tls != "terminate":
            self._refused(f"nobody serves {name} any more")
            return None
        return self._door.visitors.visit(route, self._visitor, self._ticket)

    def _http(self, agent: str, tls: TLSMemoryBIOProtocol) -> IProtocol:
        visitor = replace(self._visitor, alpn=tls.negotiatedProtocol)
        return self._door.http.serve(visitor, self._ticket, agent=agent)


def _tlsRefusal(error: DialFailed) -> bytes:
    return alert(Alert.INTERNAL_ERROR)
