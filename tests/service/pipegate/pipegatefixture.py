"""
Clients of PipeGate's at a dialect in memory, as scripts of a test::

    gate = PipeGate()
    client = gate.client("node")
    visit = gate.ask("/node/articles", body=b"a=1")
    client.answer(client.heard[0], "<h1>Hello</h1>")
    assert visit.status == 200

The server's end is the real one. What a client says is what the test has it say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any, cast

from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.limits import Ticket
from gateway.domain.pipegate import PipeGateAuthority, PipeGateToken, PipeGateTokens
from gateway.domain.tokens import hashToken
from gateway.net.direct import Buffer
from gateway.net.httpinterfaces import Fields, IExchange, IOriginRequest, OriginLost
from gateway.net.interfaces import IWebSocketChannel, IWebSocketReceiver
from gateway.net.websocketclient import WebSocketClientFactory
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.pipegate.dialect import PipeGateDialect
from gateway.service.pipegate.jsonrequest import JsonLimits
from gateway.service.pipegate.port import PipeGatePort, PipeGateSite
from gateway.service.server.attached import IHttpSession, Visitor
from gateway.testing import flowPair
from gateway.wire.http1 import RequestHead, ResponseHead
from gateway.wire.proxyheader import Address
from gateway.wire.upgraderequest import WebSocketRequest
from tests.service.server.doorsfixture import Doors

TOKEN = "123xyz"
OTHER = "other-token"
"""The first is good for all ids, the second for C{articles} alone."""

VISITOR = Visitor(None, None)


@implementer(IWebSocketReceiver)
class Client:
    """
    The client's end of a WebSocket.

    @ivar heard: the messages of the server, as what was JSON.
    @ivar refused: why it was not opened, or lost.
    """

    def __init__(self, gate: PipeGate) -> None:
        self._gate = gate
        self.channel: IWebSocketChannel | None = None
        self.heard: list[dict[str, Any]] = []
        self.reason: Failure | None = None

    def opened(self, channel: IWebSocketChannel) -> None:
        self.channel = channel

    def gotMessage(self, payload: bytes, isBinary: bool) -> None:
        assert not isBinary
        self.heard.append(json.loads(payload))

    def lost(self, reason: Failure) -> None:
        self.reason = reason

    def say(self, message: object) -> None:
        """Send a text, or what becomes JSON."""
        assert self.channel is not None
        self.channel.sendText(message if isinstance(message, str) else json.dumps(message))
        self._gate.pump()

    def answer(self, request: dict[str, Any], body: str = "", status: int = 200, **headers: str) -> None:
        """Answer a message."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.say(
            {
                "correlation_id": request["correlation_id"],
                "headers": json.dumps(fields) if fields else "",
                "body": body,
                "status_code": status,
            }
        )

    def leave(self) -> None:
        """The connection breaks."""
        assert self.channel is not None
        self.channel.abortConnection()
        self._gate.pump()


@implementer(IExchange)
class Visit:
    """
    What becomes of a visitor's request.

    @ivar head: of the response.
    @ivar length: that was told with it.
    @ivar isWhole: all of it came.
    @ivar isSlow: set it to take one piece, and then no more until it is told to go on.
    """

    request: IOriginRequest

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.length: int | None = None
        self.body = b""
        self.isWhole = self.isSlow = False
        self.lost: OriginLost | None = None

    @property
    def status(self) -> int:
        return 0 if self.head is None else self.head.status

    @property
    def text(self) -> str:
        return self.body.decode()

    def gotResponse(self, head: ResponseHead, length: int | None) -> None:
        assert self.head is None and self.lost is None
        self.head, self.length = head, length

    def gotResponseBody(self, data: Buffer) -> None:
        assert self.head is not None and not self.isWhole
        self.body += data
        if self.isSlow:
            self.request.pauseProducing()

    def gotResponseEnd(self, trailers: Fields) -> None:
        assert self.head is not None and not self.isWhole
        self.isWhole = True

    def originLost(self, lost: OriginLost) -> None:
        assert self.lost is None and not self.isWhole
        self.lost = lost

    def pauseRequest(self) -> None: ...
    def resumeRequest(self) -> None: ...
    def gotInformational(self, head: ResponseHead) -> None: ...
    def gotUpgrade(self, head: ResponseHead) -> None: ...
    def gotRequestBody(self, data: Buffer) -> None: ...
    def gotRequestEnd(self, trailers: Fields) -> None: ...
    def pauseResponse(self) -> None: ...
    def resumeResponse(self) -> None: ...
    def visitorLost(self, details: str) -> None: ...


class PipeGate(Doors):
    """
    A dialect, its clients, and their visitors.

    @ivar port: of a server with all of it.
    """

    def __init__(
        self, *, shares: bool = False, limits: JsonLimits | None = None, proxies: Sequence[str] = (), domain: str = ""
    ) -> None:
        self.shares = shares
        self.domain = domain
        self.proxies = [ip_network(each) for each in proxies]
        self.limits = limits or JsonLimits()
        names = ("unauthenticated", "unauthenticatedPerAddress", "perAddress", "newPerSecond", "newPerSecondPerAddress")
        super().__init__(limits=dict.fromkeys(names))

    def startGateway(self) -> None:
        super().startGateway()
        tokens = PipeGateTokens(
            [PipeGateToken(hashToken(TOKEN)), PipeGateToken(hashToken(OTHER), frozenset(("articles",)))]
        )
        self.door.authority = authority = PipeGateAuthority(tokens, [self.entry], domain=self.domain)
        self.dialect = PipeGateDialect(self.door, authority, self.limits, shares=self.shares, proxies=self.proxies)
        self.http.site = PipeGateSite(self.clock, self.door, self.dialect)
        self.port = PipeGatePort(self.clock, self.http)

    def ticket(self) -> Ticket:
        """Of a visitor."""
        ticket = self.admission.admit("192.0.2.9", self.clock.seconds())
        assert isinstance(ticket, Ticket)
        return ticket

    def connect(
        self,
        identifier: str,
        tokens: Sequence[str] = (TOKEN,),
        *,
        peer: str = "192.0.2.9",
        target: str | None = None,
        subprotocols: Sequence[str] = (),
        forwarded: str | None = None,
    ) -> Client:
        """Somebody opens a WebSocket, or tries to."""
        client = Client(self)
        headers = [("PIPEGATE_CLIENT_TOKEN", token) for token in tokens]
        if forwarded is not None:
            headers.append(("X-Forwarded-For", forwarded))
        request = WebSocketRequest("gw.example", target or f"/{identifier}", headers, subprotocols)
        settings = WebSocketSettings(maxMessage=64 * 1024 * 1024, pingInterval=0)
        sockets = WebSocketClientFactory(lambda: client, request, clock=self.clock, settings=settings)
        visitor = Visitor(Address(ip_address(peer), 40000), None)
        self.join(flowPair(sockets.buildProtocol(None), self.dialect.arrive(visitor, self.ticket())))
        return client

    def client(self, identifier: str = "node", token: str = TOKEN, **options: Any) -> Client:
        """A client that is connected."""
        client = self.connect(identifier, (token,), **options)
        assert client.channel is not None, client.reason
        return client

    def names(self) -> list[str]:
        """What is served."""
        return sorted(str(place.name) for place in self.registry.routes)

    def begin(self, target: str, method: str = "GET", length: int | None = 0, *fields: tuple[str, str]) -> Visit:
        """A visitor's request begins."""
        found = self.registry.prefix(target)
        assert found is not None, f"nobody serves {target}"
        route, below = found
        replica = route.choose(self.clock.seconds(), ())
        assert replica is not None
        session = cast(IHttpSession, replica.attachment)
        assert IHttpSession.providedBy(session)
        visit = Visit()
        head = RequestHead(method, below, "1.1", list(fields))
        visit.request = session.originFor(replica.service, VISITOR).send(head, length, visit)
        return visit

    def ask(self, target: str, method: str = "GET", body: bytes = b"", *fields: tuple[str, str]) -> Visit:
        """A visitor makes a request."""
        visit = self.begin(target, method, len(body), *fields)
        if body:
            visit.request.write(body)
        visit.request.finish()
        self.pump()
        return visit
