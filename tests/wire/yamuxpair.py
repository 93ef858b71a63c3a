"""What the tests of yamux share: sessions, what is on the wire between them, and a pair of them."""

from collections.abc import Iterable

from gateway.wire.window import WindowBudget
from gateway.wire.yamux import Session
from gateway.wire.yamuxframes import Ack, Data, Event, Syn
from gateway.wire.yamuxstreams import Limits

KIB = 1024
PATTERN = bytes(range(251)) * 16 * KIB
"""Payload in which every shift shows: 251 is prime."""


def session(*, client: bool = False, budget: WindowBudget | None = None, limits: Limits | None = None) -> Session:
    """A new session, a server unless said otherwise."""
    return Session(client=client, budget=WindowBudget() if budget is None else budget, limits=limits)


def wire(session: Session) -> bytes:
    """What a session wants written."""
    return b"".join(session.take())


def merged(events: Iterable[Event]) -> list[Event]:
    """The same with neighbouring pieces of one stream's payload put together."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, Data) and isinstance(last, Data) and last.stream == event.stream:
            result[-1] = Data(event.stream, bytes(last.payload) + event.payload)
        else:
            result.append(event)
    return result


def payload(events: Iterable[Event], stream: int) -> bytes:
    """All the payload of one stream."""
    return b"".join(event.payload for event in events if isinstance(event, Data) and event.stream == stream)


class Pair:
    """
    Two sessions joined by wires that lose nothing.

    @ivar now: the time at both.
    """

    def __init__(self, client: Limits | None = None, server: Limits | None = None) -> None:
        self.budget = WindowBudget()
        self.client = session(client=True, budget=self.budget, limits=client)
        self.server = session(budget=self.budget, limits=server)
        self.now = 0.0

    def toServer(self) -> list[Event]:
        """Carry what the client sent, and return what the server makes of it."""
        return self.server.receive(wire(self.client), self.now)

    def toClient(self) -> list[Event]:
        """Carry what the server sent, and return what the client makes of it."""
        return self.client.receive(wire(self.server), self.now)

    def opened(self) -> int:
        """A stream of the client's that the server accepted."""
        stream = self.client.open(self.now)
        assert self.toServer() == [Syn(stream)]
        self.server.accept(stream)
        assert self.toClient() == [Ack(stream)]
        return stream

    def upload(self, stream: int, data: bytes) -> bytes:
        """Send from client to server, which consumes all at once, for as long as it takes. Return what arrived."""
        arrived = b""
        view = memoryview(data)
        while len(view):
            self.client.wants(stream)
            while len(view) and (turn := self.client.nextWriter()):
                self.client.sendData(stream, view[: turn[1]])
                view = view[turn[1] :]
                self.client.wants(stream)
            for event in self.toServer():
                if isinstance(event, Data):
                    arrived += event.payload
                    self.server.consume(event.stream, len(event.payload), self.now)
            self.toClient()
        return arrived
