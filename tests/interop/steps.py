"""
The words of the transcripts: what a client and a target do, and what each must see.

Each word is a function that returns a step, or is a step itself. An expectation that is not met raises
L{Unexpected} with a sentence that is the same in each run, since the original's defects are known by it::

    echo = (sends(b"up"), targetReceives(b"up"), targetSends(b"down"), hearsData(b"down"))

The module is long because it is a vocabulary: many short words, none of which needs the others.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from tests.interop import rawwebsocket as ws
from tests.interop.rawwebsocket import ConnectionLost, HandshakeRefused, NothingCame, RawWebSocket
from tests.interop.transcripts import ABSENT, Stage, Step, Unexpected, controlMessage, describe
from tests.processes import HERE

# What the client does.


def opens(path: str = "/", *, headers: Mapping[str, str] | None = None) -> Step:
    """Open a WebSocket to the client listener, without TLS."""

    def step(stage: Stage) -> None:
        stage.client = _connect(stage, stage.gateway.address, path, headers, None)

    return step


def opensTls(*, certificate: str | None, admin: bool = False) -> Step:
    """
    Open a WebSocket with TLS.

    @param certificate: whose certificate to show: C{"client"}'s, a C{"stranger"}'s of another authority, or none.
    @param admin: to the management listener, rather than the client listener.
    """

    def step(stage: Stage) -> None:
        address = stage.gateway.adminAddress if admin else stage.gateway.address
        assert address is not None, "this setup has no management listener"
        context = ssl.create_default_context(cafile=stage.files / "ca.pem")
        if certificate is not None:
            folder = stage.files / certificate
            context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        stage.client = _connect(stage, address, "/", None, context)

    return step


def _connect(
    stage: Stage,
    address: tuple[str, int],
    path: str,
    headers: Mapping[str, str] | None,
    tls: ssl.SSLContext | None,
) -> RawWebSocket:
    try:
        return RawWebSocket.connect(
            address, path, headers=headers, source=stage.source, tls=tls, timeout=stage.patience
        )
    except HandshakeRefused as refused:
        raise Unexpected("the upgrade", f"status {refused.status}") from refused
    except ConnectionLost:
        raise Unexpected("the upgrade", "connection lost") from None
    except NothingCame:
        raise Unexpected("the upgrade", "nothing") from None


def isRefused(step: Step, outcome: str = "connection lost") -> Step:
    """Play C{step}, whose upgrade must end in C{outcome}: no answer but the end of TCP, or e.g. C{status 403}."""

    def refusal(stage: Stage) -> None:
        try:
            step(stage)
        except Unexpected as unexpected:
            if unexpected.saw == f"awaiting the upgrade: {outcome}":
                return
            raise
        raise Unexpected(outcome, "switched protocols")

    return refusal


def gets(path: str, status: int, *, contains: bytes = b"") -> Step:
    """Ask for C{path} as a browser's address bar does: plain HTTP, no upgrade."""

    def step(stage: Stage) -> None:
        request = f"GET {path} HTTP/1.1\r\nHost: {HERE}\r\nConnection: close\r\n\r\n".encode("ascii")
        stream = ws.connectStream(stage.gateway.address, source=stage.source, timeout=stage.patience)
        with stream:
            stream.sendall(request)
            answer = b""
            try:
                while data := stream.recv(65536):
                    answer += data
            except TimeoutError:
                raise Unexpected(f"status {status}", "nothing") from None
        got = answer.split(b" ", 2)[1].decode("ascii") if answer else "nothing"
        if got != str(status):
            raise Unexpected(f"status {status}", f"status {got}")
        if contains not in answer:
            raise Unexpected(f"a page with {contains!r}", "another page")

    return step


def says(kind: str, **fields: object) -> Step:
    """Send a control message in a text frame."""
    return lambda stage: stage.client.sendText(json.dumps({"_": kind, **fields}))


def saysBinary(kind: str, **fields: object) -> Step:
    """Send a control message in a binary frame."""
    return lambda stage: stage.client.sendBinary(json.dumps({"_": kind, **fields}).encode("utf-8"))


def connects(**fields: object) -> Step:
    """Ask for the target. A function among C{fields} is called with the target's port."""

    def step(stage: Stage) -> None:
        wish: dict[str, object] = {"host": HERE, "port": stage.port}
        wish |= {key: value(stage.port) if callable(value) else value for key, value in fields.items()}
        says("connect", **{key: value for key, value in wish.items() if value is not ABSENT})(stage)

    return step


def connectsToGateway(stage: Stage) -> None:
    """Ask for the gateway's own listener as target."""
    says("connect", host=HERE, port=stage.gateway.address[1])(stage)


def sendsText(text: str) -> Step:
    """Send a text frame that need not be a control message."""
    return lambda stage: stage.client.sendText(text)


def sends(payload: bytes) -> Step:
    """Send a binary frame."""
    return lambda stage: stage.client.sendBinary(payload)


def sendsFragments(*payloads: bytes) -> Step:
    """Send one binary message in several frames."""

    def step(stage: Stage) -> None:
        for number, payload in enumerate(payloads):
            opcode = ws.CONTINUATION if number else ws.BINARY
            stage.client.sendFrame(opcode, payload, final=number == len(payloads) - 1)

    return step


def sendsFrame(opcode: int, payload: bytes = b"", *, masked: bool = True) -> Step:
    """Send any frame."""
    return lambda stage: stage.client.sendFrame(opcode, payload, masked=masked)


def uploads(payload: bytes) -> Step:
    """Send C{payload} in one binary frame while the target reads it; the target must get just that."""

    def step(stage: Stage) -> None:
        sender = threading.Thread(target=_sendQuietly, args=(stage.client, payload))
        sender.start()
        try:
            targetReceives(payload)(stage)
        finally:
            if sender.is_alive():
                stage.client.socket.shutdown(socket.SHUT_RDWR)
            sender.join()

    return step


def _sendQuietly(client: RawWebSocket, payload: bytes) -> None:
    # A connection that is lost is told by the target, which waits for the bytes.
    with suppress(ConnectionLost):
        client.sendBinary(payload)


def isHeldBack(limit: int) -> Step:
    """
    Send without end to a target that does not read: the gateway must stop taking bytes.

    @param limit: bytes at which it counts as taking everything. Kernel buffers hold some megabytes.
    """

    def step(stage: Stage) -> None:
        frame = ws.encodeFrame(ws.BINARY, bytes(65536))
        sent = 0
        stream = stage.client.socket
        stream.settimeout(stage.patience / 2)
        try:
            while sent < limit:
                sent += stream.send(frame[sent % len(frame) :])
        except TimeoutError:
            return
        except OSError:
            raise Unexpected("back-pressure", "connection lost") from None
        raise Unexpected("back-pressure", f"took {limit} bytes")

    return step


def closes(code: int = 1000) -> Step:
    """Send a Close frame."""
    return lambda stage: stage.client.sendClose(code)


def drops(stage: Stage) -> None:
    """End the client's TCP connection without a Close frame."""
    stage.client.drop()


def hears(kind: str, **fields: object) -> Step:
    """Await a control message with at least C{fields}; more of them are fine, as they are for the real client."""

    def step(stage: Stage) -> None:
        _expectMessage(stage, kind, {"_": kind, **fields})

    return step


def hearsError(code: str, *, details: bool = False) -> Step:
    """
    Await an error and the Close 1000 that follows it.

    @param details: whether it must say in C{details} what went wrong, which is all that a person gets to see.
    """

    def step(stage: Stage) -> None:
        message = _expectMessage(stage, f"error {code}", {"_": "error", "code": code})
        if details and not message.get("details"):
            raise Unexpected(f"details of {code}", "none")
        hearsClose(1000)(stage)

    return step


def _expectMessage(stage: Stage, awaited: str, expected: Mapping[str, object]) -> Mapping[str, object]:
    frame = stage.frame(awaited)
    message = controlMessage(frame)
    if message is None or any(message.get(key, ABSENT) != value for key, value in expected.items()):
        raise Unexpected(awaited, describe(frame))
    return message


def hearsClose(code: int) -> Step:
    """Await a Close frame with C{code}, and the end of TCP after our answer."""

    def step(stage: Stage) -> None:
        frame = stage.frame(f"close {code}")
        if describe(frame) != f"close {code}":
            raise Unexpected(f"close {code}", describe(frame))
        try:
            stage.client.sendClose(code)
            stage.client.receive(stage.patience)
        except ConnectionLost:
            return
        except NothingCame:
            raise Unexpected("the end of TCP", "nothing") from None
        raise Unexpected("the end of TCP", "another frame")

    return step


def finishes(stage: Stage) -> None:
    """Await Close 1000, whatever is said before it except an error."""
    while describe(frame := stage.frame("close 1000")) != "close 1000":
        message = controlMessage(frame)
        if message is None or message.get("_") == "error":
            raise Unexpected("close 1000", describe(frame))


def hearsPong(payload: bytes) -> Step:
    """Await the answer to a ping."""

    def step(stage: Stage) -> None:
        frame = stage.frame("a pong")
        if (frame.opcode, frame.payload) != (ws.PONG, payload):
            raise Unexpected("a pong", describe(frame))

    return step


def hearsData(expected: bytes, *, largest: int | None = None) -> Step:
    """
    Await exactly C{expected} in binary frames.

    @param largest: the most bytes that one frame may have.
    """

    def step(stage: Stage) -> None:
        got = bytearray()
        while len(got) < len(expected):
            frame = stage.frame("data")
            if frame.opcode not in (ws.BINARY, ws.CONTINUATION):
                raise Unexpected("data", describe(frame))
            if largest is not None and len(frame.payload) > largest:
                raise Unexpected("data", f"a frame of more than {largest} bytes")
            got += frame.payload
        if got != expected:
            raise Unexpected("data", "other data")

    return step


# What the target does.


def accepts(stage: Stage) -> None:
    """Await the gateway's connection to the target."""
    stage.listener.settimeout(stage.patience)
    try:
        stage.target, _ = stage.listener.accept()
    except TimeoutError:
        raise Unexpected("the dial", "nothing") from None


def notDialled(stage: Stage) -> None:
    """The target was not connected to."""
    stage.listener.settimeout(0)
    try:
        stage.target, _ = stage.listener.accept()
    except BlockingIOError:
        return
    raise Unexpected("no dial", "dialled")


def refusesDials(stage: Stage) -> None:
    """Stop listening, so that a dial of the target is refused."""
    stage.listener.close()


def targetSends(payload: bytes) -> Step:
    """Send from the target."""

    def step(stage: Stage) -> None:
        stage.target.settimeout(30.0)
        stage.target.sendall(payload)

    return step


def targetReceives(expected: bytes) -> Step:
    """The target gets exactly C{expected}."""

    def step(stage: Stage) -> None:
        got = bytearray()
        stage.target.settimeout(stage.patience)
        try:
            while len(got) < len(expected):
                data = stage.target.recv(262144)
                if not data:
                    raise Unexpected("data at the target", "end of file")
                got += data
        except TimeoutError:
            raise Unexpected("data at the target", "nothing" if not got else "a part") from None
        except OSError:
            raise Unexpected("data at the target", "a reset") from None
        if got != expected:
            raise Unexpected("data at the target", "other data")

    return step


def targetEnds(stage: Stage) -> None:
    """End the target's connection in order: FIN after what was sent."""
    stage.target.close()


def targetResets(stage: Stage) -> None:
    """End the target's connection with a reset."""
    stage.target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stage.target.close()


def targetSeesEnd(stage: Stage) -> None:
    """The gateway ends its connection to the target, in order or with a reset."""
    stage.target.settimeout(stage.patience)
    try:
        while stage.target.recv(65536):
            pass
    except TimeoutError:
        raise Unexpected("the end of the target's connection", "nothing") from None
    except ConnectionError:
        pass


def logOmits(text: str) -> Step:
    """The gateway's log does not hold C{text}."""

    def step(stage: Stage) -> None:
        if text in stage.gateway.log():
            raise Unexpected("a log without secrets", "a secret")

    return step


def logSays(text: str) -> Step:
    """The gateway's log comes to hold C{text}, in any case, within the patience."""

    def step(stage: Stage) -> None:
        deadline = time.monotonic() + stage.patience
        while text.lower() not in stage.gateway.log().lower():
            if time.monotonic() > deadline:
                raise Unexpected(f"{text!r} in the log", "nothing")
            time.sleep(0.05)

    return step


def sendsTls(stage: Stage) -> None:
    """Speak TLS to a listener that is plain; the handshake must fail."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        ws.connectStream(stage.gateway.address, source=stage.source, tls=context, timeout=stage.patience).close()
    except ConnectionLost:
        return
    raise Unexpected("a failing TLS handshake", "TLS")
