"""
The words in which a conversation with a Tabby gateway is written down, and the stage it is played on.

A transcript is data: steps of a client, of the target behind the gateway, and what each must see. It is played
unchanged against any gateway; the first expectation that is not met ends it with a short, stable sentence, so that
a known defect of the original is an I{exact} observation too, not merely a failure::

    CONNECTED = (opens(), hears("hello"), says("hello"), hears("ready"), connects(), accepts(), hears("connected"))
    echo = Transcript("echo", "Bytes travel both ways.", (*CONNECTED, sends(b"a"), targetReceives(b"a")))
    play(echo, gateway, patience=5.0)     # None, or e.g. "awaiting ready: close 1011"

Everything blocks, in one thread: the gateway is another process, and the kernel queues what it sends.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.interop import rawwebsocket as ws
from tests.interop.gateways import Gateway
from tests.interop.rawwebsocket import ConnectionLost, Frame, NothingCame, RawWebSocket
from tests.processes import HERE


class Unexpected(Exception):
    """
    An expectation was not met.

    @ivar saw: what was awaited and what happened instead, in words that are the same each time.
    """

    def __init__(self, awaited: str, saw: str) -> None:
        super().__init__(f"awaiting {awaited}: {saw}")
        self.saw = f"awaiting {awaited}: {saw}"


@dataclass(slots=True)
class Stage:
    """
    One playing of one transcript: the gateway, a client, and a target that listens.

    @ivar patience: seconds until a thing that does not come counts as not coming.
    @ivar source: the client's own address. Each transcript has another, so that what a gateway counts by address
        is counted for one transcript.
    @ivar files: the folder with C{ca.pem} and the certificates of L{opensTls}.
    @ivar port: the target's, also after it stopped listening.
    """

    gateway: Gateway
    patience: float
    source: str
    files: Path
    listener: socket.socket = field(default_factory=lambda: socket.create_server((HERE, 0)))
    port: int = 0
    _client: RawWebSocket | None = None
    _target: socket.socket | None = None

    def __post_init__(self) -> None:
        self.port = self.listener.getsockname()[1]

    @property
    def client(self) -> RawWebSocket:
        """The client's connection; a transcript opens it first."""
        assert self._client is not None, "the transcript has not opened a connection"
        return self._client

    @client.setter
    def client(self, client: RawWebSocket) -> None:
        if self._client is not None:
            self._client.drop()
        self._client = client

    @property
    def target(self) -> socket.socket:
        """The gateway's connection to the target; a transcript accepts it first."""
        assert self._target is not None, "the transcript has not accepted the gateway's connection"
        return self._target

    @target.setter
    def target(self, target: socket.socket) -> None:
        self._target = target

    def frame(self, awaited: str) -> Frame:
        """Return the next frame that the client gets."""
        try:
            return self.client.receive(self.patience)
        except NothingCame:
            raise Unexpected(awaited, "nothing") from None
        except ConnectionLost:
            raise Unexpected(awaited, "connection lost") from None

    def close(self) -> None:
        """End all that is open."""
        if self._client is not None:
            self._client.drop()
        if self._target is not None:
            self._target.close()
        self.listener.close()


Step = Callable[[Stage], None]

ABSENT = object()
"""The value of a field that is left out."""


@dataclass(frozen=True, slots=True)
class Setup:
    """
    How a gateway is started.

    @ivar options: options besides host and port; C{{files}} stands for the folder of certificates.
    @ivar oursToo: options that ours needs to play the same part, because it denies more by default.
    """

    name: str
    options: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    admin: bool = False
    oursToo: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Divergence:
    """
    What the original does instead.

    @ivar text: for the document of differences.
    @ivar saw: the sentences with which a playing against the original may end; one of them must.
    """

    text: str
    saw: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Transcript:
    """
    One conversation.

    @ivar name: as in C{test_name}.
    @ivar promise: what happens, in one sentence for the document.
    @ivar original: how the original differs, when it does.
    @ivar repeat: how often to play it: for what the original only gets wrong most of the time. It has to get it wrong
        once, ours never.
    """

    name: str
    promise: str
    setup: Setup
    steps: tuple[Step, ...]
    original: Divergence | None = None
    repeat: int = 1


def play(transcript: Transcript, gateway: Gateway, *, patience: float, source: str, files: Path) -> str | None:
    """
    Play C{transcript} against C{gateway}.

    @return: L{None} when all was as written, otherwise the first observation that was not.
    """
    for _ in range(transcript.repeat):
        stage = Stage(gateway, patience, source, files)
        try:
            for step in transcript.steps:
                step(stage)
        except Unexpected as unexpected:
            return unexpected.saw
        except ConnectionLost:
            return "connection lost while sending"
        finally:
            stage.close()
    return None


def controlMessage(frame: Frame) -> Mapping[str, object] | None:
    if frame.opcode != ws.TEXT:
        return None
    message = json.loads(frame.payload)
    return message if isinstance(message, dict) else None


def describe(frame: Frame) -> str:
    """Say what C{frame} is, without anything that changes from run to run."""
    if frame.opcode == ws.CLOSE:
        return f"close {struct.unpack('!H', frame.payload[:2])[0] if frame.payload else 'without a code'}"
    message = controlMessage(frame)
    if message is not None:
        return f"error {message.get('code')}" if message.get("_") == "error" else f"message {message.get('_')}"
    return {ws.BINARY: "data", ws.PONG: "a pong"}.get(frame.opcode, f"a frame with opcode {frame.opcode}")
