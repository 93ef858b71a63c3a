"""
What can be fuzzed: a decoder of L{gateway.wire} each, with what it may raise, and the inputs that are known for it.

A new decoder is a row in L{TARGETS} and a file in C{tests/corpus/}, and everything else follows::

    outcome = TARGETS["http1"].outcome([b"GET / HT", b"TP/1.1"])
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from h2.errors import ErrorCodes

from gateway.wire import (
    agentcontrol,
    clienthello,
    datagrams,
    gotunnel,
    http1,
    http1body,
    networkrelay,
    pipegate,
    preamble,
    proxyheader,
    tabby,
    yamuxframes,
)
from gateway.wire.errors import RemoteProtocolError
from gateway.wire.forwarded import forwardedFields
from gateway.wire.upgrade import upgradeKey
from gateway.wire.upgraderequest import EXCERPT, WebSocketRequest, checkAcceptance, excerptSize, refusal
from gateway.wire.window import INITIAL_WINDOW, ReceiveWindow, WindowBudget
from gateway.wire.yamux import Session
from gateway.wire.yamuxframes import HEADER, Ack, Data, Event, Fin, GoAway, Pong, Rst, Syn
from gateway.wire.yamuxstreams import Limits
from tests.fuzz import http2
from tests.wire.yamuxpair import KIB, merged

CORPUS = Path(__file__).resolve().parents[1] / "corpus"
MAX_INPUT = 2 * KIB
"""Bytes: the longest input that is made, or kept."""

Events = Iterable[object]


def tokens(data: bytes) -> list[bytes]:
    """Words, and single bytes between them."""
    return re.findall(rb"\w+|\W", data)


@dataclass(frozen=True, slots=True)
class Target:
    """
    A decoder.

    @ivar decode: gives what came of the pieces of one input, comparable. It asserts what must always hold.
    @ivar codes: those of each L{RemoteProtocolError} that it may raise. Nothing else may be raised.
    @ivar isStream: whether it makes no difference how the input is cut into pieces.
    @ivar units: cuts an input into what mutations treat as one.
    """

    decode: Callable[[Sequence[bytes]], Events]
    codes: Iterable[str]
    isStream: bool = True
    units: Callable[[bytes], list[bytes]] = tokens

    def outcome(self, pieces: Sequence[bytes]) -> list[object] | str:
        """
        @return: what came of an input, or the code with which it was refused.
        @raise Exception: anything else is a defect.
        """
        try:
            return list(self.decode(pieces))
        except RemoteProtocolError as e:
            assert e.code in set(self.codes), f"{e.code!r} is not documented"
            assert e.details
            return str(e.code)


def corpus(name: str) -> list[bytes]:
    """The inputs that are kept for a target: hexadecimal, one in a line, and a comment."""
    lines = (CORPUS / f"{name}.txt").read_text(encoding="ascii").splitlines()
    return [bytes.fromhex(line.partition("#")[0]) for line in lines if line]


def keep(name: str, data: bytes, comment: str) -> None:
    """Add an input to those of a target."""
    with (CORPUS / f"{name}.txt").open("a", encoding="ascii") as file:
        file.write(f"{data.hex()}  # {comment}\n")


def _frames(data: bytes) -> list[bytes]:
    """Yamux's frames, each with its payload."""
    units, position = [], 0
    while position < len(data):
        stop = position + HEADER.size
        if stop <= len(data):
            word, _stream, length = HEADER.unpack_from(data, position)
            if word >> 16 == 0:
                stop += min(length, len(data) - stop)
        units.append(data[position:stop])
        position = stop
    return units


_LIMITS = Limits(streams=4, backlog=2, answers=8)


def _yamux(client: bool) -> tuple[Session, WindowBudget]:
    """A session that has two streams of its own, one of which it has ended."""
    budget = WindowBudget()
    session = Session(client=client, budget=budget, limits=_LIMITS)
    for _ in range(2):
        stream = session.open(0.0)
    session.closeWrite(stream)
    session.ping(0.0)
    session.take()
    return session, budget


def _checkYamux(session: Session, budget: WindowBudget) -> None:
    """Little is held, and in the end nothing."""
    assert session.streamCount <= 2 * _LIMITS.streams
    for stream in session._byNumber.values():
        assert 0 <= stream.credit < 2**32 and 0 <= stream.window.credit < 2**32
        assert stream.closing or stream.window.credit + stream.window.unconsumed <= _LIMITS.window
    assert len(session._output) <= _LIMITS.answers + 6 * _LIMITS.streams + 1
    session.lost()
    assert (session.streamCount, budget.used) == (0, 0)


def _inOrder(events: list[Event]) -> list[Event]:
    """Assert that a stream gives nothing after its reset, and no payload after its end."""
    last: dict[int, Event] = {}
    for event in events:
        if isinstance(event, Pong | GoAway):
            continue
        before = last.get(event.stream)
        assert isinstance(event, Syn) or not isinstance(before, Rst), event
        assert not (isinstance(before, Fin) and isinstance(event, Data | Fin)), event
        if not isinstance(event, Ack):
            last[event.stream] = event
    return merged(events)


def _decodeYamux(client: bool) -> Callable[[Sequence[bytes]], Events]:
    """A session whose application does nothing."""

    def decode(pieces: Sequence[bytes]) -> Events:
        session, budget = _yamux(client)
        events: list[Event] = []
        try:
            for piece in pieces:
                events += session.receive(piece, 1.0)
        finally:
            assert session.ended or not session.receive(b"", 1.0)
            _checkYamux(session, budget)
        return _inOrder(events)

    return decode


def _decodeWithApplication(pieces: Sequence[bytes]) -> Events:
    """
    A session whose application answers in a way that depends on the stream. The first byte says which role it has, and
    whether the carrier has room at all.
    """
    data = b"".join(pieces)
    first = data[0] if data else 0
    session, budget = _yamux(client=bool(first & 2))
    now, happened = 0.0, list[Event]()
    try:
        for start in range(1, len(data), 18):
            now += 0.03
            events = session.receive(data[start : start + 18], now)
            for event in events:
                _answer(session, event, now)
            happened += events
            if not first & 1:
                while (turn := session.nextWriter()) is not None:
                    session.sendData(turn[0], b"x")
                session.take()
            happened += session.expire(now)
    finally:
        _checkYamux(session, budget)
    return _inOrder(happened)


def _answer(session: Session, event: Event, now: float) -> None:
    if isinstance(event, Syn):
        verbs: list[Callable[[int], None]] = [session.accept, session.reset, session.closeWrite, session.wants]
        verbs[event.stream // 2 % 4](event.stream)
    elif isinstance(event, Data):
        session.consume(event.stream, len(event.payload), now)
        session.wants(event.stream)
    elif isinstance(event, Fin):
        session.close(event.stream, now)


def _decodeWindow(pieces: Sequence[bytes]) -> Events:
    """Two windows of one small budget, to which four bytes each do something."""
    budget = WindowBudget(3 * INITIAL_WINDOW)
    windows = [ReceiveWindow(budget, 8 * INITIAL_WINDOW, 0.0) for _ in range(2)]
    data, now = b"".join(pieces), 0.0
    for start in range(0, len(data) - 3, 4):
        which, received, consumed, passed = data[start : start + 4]
        window, scale, rtt = windows[which & 1], which >> 4, passed / 1000 if which & 2 else None
        now += (passed / 64) ** 4
        window.receive(min(window.credit, received << scale))
        before = window.credit
        granted = window.consume(min(window.unconsumed, consumed << scale), now, rtt)
        assert window.credit == before + granted and min(granted, window.unconsumed, window.credit) >= 0
        assert INITIAL_WINDOW <= window.size <= 8 * INITIAL_WINDOW
        assert 0 <= budget.used <= budget.limit
        yield which & 1, granted, window.size
    for window in windows:
        window.end()
        window.release()
    assert budget.used == 0


def _received(make: Callable[[], Callable[[bytes], Iterable[object]]]) -> Callable[[Sequence[bytes]], Events]:
    """For what is given each piece, and says what has come of it."""

    def decode(pieces: Sequence[bytes]) -> Events:
        receive = make()
        for piece in pieces:
            yield from receive(piece)

    return decode


def _grown(make: Callable[[], Callable[[bytes], object]]) -> Callable[[Sequence[bytes]], Events]:
    """For what is given all that came so far, again and again until it is enough."""

    def decode(pieces: Sequence[bytes]) -> Events:
        data, parse = b"", make()
        for piece in pieces:
            data += piece
            if (found := parse(data)) is not None:
                yield found
                return

    return decode


def _parseUpgrade(data: bytes) -> object:
    head = http1.parseRequestHead(data, limit=KIB)
    return (head, upgradeKey(head)) if head is not None and head.wantsWebSocket else head


_REQUEST = WebSocketRequest("gw.example", subprotocols=("gateway.v1", "v2"))
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, section 1.3


def _parseAnswer(data: bytes) -> object:
    """What a server says to a client that asks for a WebSocket."""
    head = http1.parseResponseHead(data, limit=KIB)
    if head is None or head.status == 101:
        return head and (head, checkAcceptance(_REQUEST, _KEY, head))
    assert 0 <= excerptSize(head) <= 4 * EXCERPT
    told = refusal(head, data.partition(b"\r\n\r\n")[2])
    assert told.isprintable() and len(told) <= 3 * EXCERPT
    return head


def _decodeRequest(pieces: Sequence[bytes]) -> Events:
    """A request as the HTTP door reads it, and as it is passed on."""
    data, payload, rest, body = b"", b"", b"", None
    for piece in pieces:
        if body is None:
            data += piece
            if (head := http1.parseRequestHead(data, limit=KIB)) is None:
                continue
            head = http1body.checkRequest(head)
            assert http1.parseRequestHead(http1.encodeRequestHead(head)) == replace(head, version="1.1")
            fields = http1body.endToEnd(head.headers)
            for trusted in (False, True):
                http1.encodeFields(
                    forwardedFields(
                        fields, client="::1", proto="http", host="a:80", port=80, trusted=trusted, requestID="1"
                    )
                )
            body, piece = http1body.BodyReader(http1body.requestLength(head)), data.partition(b"\r\n\r\n")[2]
        taken, behind = body.receive(piece)
        payload, rest = payload + b"".join(taken), rest + behind
    if body is not None:
        http1body.lastChunk(body.trailers)
        yield head, payload, body.isDone, body.trailers, rest


def _decodeResponse(pieces: Sequence[bytes]) -> Events:
    """A response to a GET, as it is read from an origin."""
    data, payload, rest, body = b"", b"", b"", None
    for piece in pieces:
        if body is None:
            data += piece
            if (head := http1.parseResponseHead(data, limit=KIB)) is None:
                continue
            assert http1.parseResponseHead(http1.encodeResponseHead(head)) == replace(head, version="1.1")
            body = http1body.BodyReader(http1body.responseLength(head, "GET"))
            piece = data.partition(b"\r\n\r\n")[2]
        taken, behind = body.receive(piece)
        payload, rest = payload + b"".join(taken), rest + behind
    if body is not None:
        http1body.lastChunk(body.trailers)
        yield head, payload, body.isDone, body.trailers, rest


def _decodeTabby(pieces: Sequence[bytes]) -> Events:
    """A client's conversation, with a message in each line."""
    conversation = tabby.ClientConversation(authRequired=True)
    conversation.greet()
    for line in b"".join(pieces).split(b"\n"):
        message = conversation.receive(line)
        yield message
        if isinstance(message, tabby.Hello):
            conversation.ready()


def _decodeTabbyManagement(pieces: Sequence[bytes]) -> Events:
    yield tabby.ManagementConversation.receive(b"".join(pieces))


def _decodeNetworkRelay(pieces: Sequence[bytes]) -> Events:
    """A message in each line, read as each part would; what it is decides who may read it."""
    for line in b"".join(pieces).split(b"\n"):
        error: RemoteProtocolError | None = None
        for decode in (
            networkrelay.decodeAgentStart,
            networkrelay.decodeFromAgent,
            networkrelay.decodeToAgent,
            networkrelay.decodeClientStart,
            networkrelay.decodeFromClient,
            networkrelay.decodeToClient,
        ):
            try:
                message = decode(line)
            except RemoteProtocolError as e:
                error = e
            else:
                again = decode(networkrelay.encode(message).encode())
                assert again == message, again
                yield message
                break
        else:
            assert error is not None
            raise error


def _decodePipeGate(pieces: Sequence[bytes]) -> Events:
    """A message in each line, of either end; what could be sent on is read as it was."""
    for line in b"".join(pieces).split(b"\n"):
        try:
            message = pipegate.decodeRequest(line)
        except RemoteProtocolError:
            answer = pipegate.decodeResponse(line)
            response, body = answer.read("GET")
            yield response, body
            http1.encodeResponseHead(response)
            again = pipegate.ResponseMessage.of(answer.correlationID, "GET", response, body)
            assert pipegate.decodeResponse(pipegate.encode(again).encode()) == again
            assert again.body == (answer.body if body else ""), again
        else:
            head, body = message.read()
            yield head, body
            http1.encodeRequestHead(head)
            repeated = pipegate.RequestMessage.of(message.correlationID, head, body)
            assert repeated.read()[1] == body


def _quads(data: bytes) -> list[bytes]:
    return [data[n : n + 4] for n in range(0, len(data), 4)]


_HTTP2_CODES = [code.name for code in ErrorCodes]
_REQUEST_CODES = ("bad-request", "version", "uri-too-long", "head-too-large")

TARGETS = {
    "agentcontrol": Target(
        _received(lambda: agentcontrol.ControlReader(client=False).receive), agentcontrol.SessionError
    ),
    "clienthello": Target(_grown(lambda: clienthello.ClientHelloReader().read), clienthello.Code),
    "datagrams": Target(_received(lambda: datagrams.DatagramDecoder().receive), ("datagram-too-long",)),
    "gotunnel": Target(_received(lambda: gotunnel.ControlReader(client=False).receive), agentcontrol.SessionError),
    "gotunnel-preamble": Target(_grown(lambda: gotunnel.parsePreamble), ("bad-preamble",)),
    "http1": Target(_grown(lambda: _parseUpgrade), (*_REQUEST_CODES, "bad-upgrade")),
    "http1-request": Target(_decodeRequest, (*_REQUEST_CODES, "method-refused", "unsupported-coding", "bad-body")),
    "http1-response": Target(_decodeResponse, ("bad-response", "head-too-large", "bad-body")),
    "http2-client": Target(http2.decode(client=True), _HTTP2_CODES, units=http2.units),
    "http2-server": Target(http2.decode(client=False), _HTTP2_CODES, units=http2.units),
    "networkrelay": Target(_decodeNetworkRelay, (networkrelay.INVALID_MESSAGE,)),
    "pipegate": Target(_decodePipeGate, (pipegate.NOT_TEXT, "invalid-message")),
    "preamble": Target(_grown(lambda: preamble.parsePreamble), preamble.StreamError),
    "proxyheader": Target(_grown(lambda: proxyheader.parse), proxyheader.Code),
    "tabby": Target(_decodeTabby, tabby.Code, isStream=False),
    "tabby-management": Target(_decodeTabbyManagement, tabby.Code, isStream=False),
    "upgraderequest": Target(_grown(lambda: _parseAnswer), ("bad-response", "head-too-large", "bad-upgrade")),
    "window": Target(_decodeWindow, (), isStream=False, units=_quads),
    "yamux-application": Target(_decodeWithApplication, yamuxframes.Code, isStream=False, units=_frames),
    "yamux-client": Target(_decodeYamux(client=True), yamuxframes.Code, units=_frames),
    "yamux-server": Target(_decodeYamux(client=False), yamuxframes.Code, units=_frames),
}
"""By the name that is used on the command line, and for the file of the corpus."""
