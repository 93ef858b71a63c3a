"""
The access log: a line for each request, for the programs that count them.

It is no log of events: the lines are those that other web servers write, so that what reads theirs reads ours, or JSON
with all that is known::

    log = AccessLog(reactor, "/var/log/txgateway/access.log", "combined")
    if log.isOn:
        log.add(Access(started=wallClock(), visitor="192.0.2.7", head=head, status=200, down=5120, ...))
    log.open("-", "json")               # at SIGHUP: somewhere else, or the same name, which may be another file by now

Lines are kept for a second, or 64 KiB, and written together. What visitors send is in them, so nothing that they send
can end a line, or be taken for another field.
"""

__all__ = ["Access", "AccessLog", "checkAccessLog"]

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import EACCES, EAGAIN
from io import FileIO
from typing import Literal

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gateway.net.timer import Timer
from gateway.wire.http1 import RequestHead

Form = Literal["common", "combined", "json"]

STANDARD_OUTPUT = "-"

FLUSH_SECONDS = 1.0
FLUSH_BYTES = 64 * 1024
LONGEST = 2048
"""Characters of anything that a visitor sent. What is longer is cut."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # in any locale
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")


@dataclass(slots=True)
class Access:
    """
    A request, and what became of it.

    @ivar started: POSIX seconds at which its head was there.
    @ivar visitor: the address of who sent it, by a trusted front's word if there is one.
    @ivar head: as it was sent; C{None} where it could not be read.
    @ivar status: of the response; 0 where the visitor was gone before there was any.
    @ivar up: bytes of the request's body.
    @ivar down: bytes of the response's body.
    @ivar seconds: from the head to the end of the response.
    @ivar firstByte: seconds from the head to the response's; C{None}: it never came.
    @ivar dial: seconds to get a connection to the origin, next to none for one that was free; C{None}: there was none.
    @ivar isSecure: the visitor came by TLS.
    @ivar user: whom a password of the gateway's proved.
    @ivar id: of the request, as the origin was told it.
    @ivar route: the name or prefix that was asked for.
    @ivar problem: the code of what the gateway answered by itself.
    @ivar cause: why it ended, if not because it was complete.
    """

    started: float
    visitor: str
    head: RequestHead | None = None
    status: int = 0
    up: int = 0
    down: int = 0
    seconds: float = 0.0
    firstByte: float | None = None
    dial: float | None = None
    isSecure: bool = True
    user: str = ""
    id: str = ""
    route: str = ""
    agent: str = ""
    replica: str = ""
    problem: str = ""
    cause: str = ""


def _text(text: str) -> str:
    """What was sent, where it can only be meant as what it says."""
    if len(text) > LONGEST:
        text = text[:LONGEST]
    return _UNSAFE.sub(_escape, text) if _UNSAFE.search(text) else text


def _escape(match: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in match[0].encode("utf-8" if match[0] > "\xff" else "latin-1"))


class _Seconds:
    """
    Whole seconds as texts. Most lines are of the same second as the one before.

    @param form: makes a text of a time.
    """

    def __init__(self, form: Callable[[datetime], str]) -> None:
        self._form = form
        self._second = -1
        self._text = ""

    def text(self, time: float) -> str:
        second = int(time)
        if second != self._second:
            self._second = second
            self._text = self._form(datetime.fromtimestamp(second, UTC))
        return self._text


def _date(when: datetime) -> str:
    return f"{when:%d}/{_MONTHS[when.month - 1]}/{when:%Y:%H:%M:%S} +0000"


def _requestLine(head: RequestHead | None) -> str:
    if head is None:
        return "-"
    version = "2.0" if head.version == "2" else head.version
    return f"{_text(head.method)} {_text(head.target)} HTTP/{version}"


class _CommonLine:
    """The Common Log Format of NCSA's server, which all others took over."""

    def __init__(self) -> None:
        self._dates = _Seconds(_date)

    def line(self, access: Access) -> str:
        """
        @return: without a line end.
        """
        return (
            f"{_text(access.visitor) or '-'} - {_text(access.user).replace(' ', '_') or '-'}"
            f' [{self._dates.text(access.started)}] "{_requestLine(access.head)}" {access.status:03d} {access.down}'
        )

    def __call__(self, access: Access) -> bytes:
        return f"{self.line(access)}\n".encode("ascii")


class _CombinedLine(_CommonLine):
    """The same, and what sent the visitor here, and with which program."""

    def __call__(self, access: Access) -> bytes:
        head = access.head
        referer, agent = (
            ("-", "-") if head is None else (_field(head, "referer") or "-", _field(head, "user-agent") or "-")
        )
        return f'{self.line(access)} "{referer}" "{agent}"\n'.encode("ascii")


def _field(head: RequestHead, name: str) -> str:
    return _text(head.get(name) or "")


class _Record(msgspec.Struct, omit_defaults=True):
    """A line of JSON. Numbers are always there, and texts where there is something to say."""

    time: str
    id: str
    visitor: str
    status: int
    up: int
    down: int
    seconds: float
    firstByte: float | None = None
    dial: float | None = None
    scheme: str = ""
    method: str = ""
    host: str = ""
    target: str = ""
    version: str = ""
    referer: str = ""
    userAgent: str = ""
    user: str = ""
    route: str = ""
    agent: str = ""
    replica: str = ""
    problem: str = ""
    cause: str = ""


_ENCODER = msgspec.json.Encoder()


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


class _JsonLine:
    """All that is known."""

    def __init__(self) -> None:
        self._times = _Seconds(datetime.isoformat)

    def __call__(self, access: Access) -> bytes:
        head = access.head
        record = _Record(
            time=f"{self._times.text(access.started)[:19]}.{int(access.started % 1 * 1000):03d}+00:00",
            id=access.id,
            visitor=access.visitor,
            status=access.status,
            up=access.up,
            down=access.down,
            seconds=round(access.seconds, 6),
            firstByte=_round(access.firstByte),
            dial=_round(access.dial),
            scheme="https" if access.isSecure else "http",
            user=_text(access.user),
            route=access.route,
            agent=access.agent,
            replica=access.replica,
            problem=access.problem,
            cause=access.cause,
        )
        if head is not None:
            record.method = _text(head.method)
            record.target = _text(head.target)
            record.version = head.version
            record.host = _field(head, "host")
            record.referer = _field(head, "referer")
            record.userAgent = _field(head, "user-agent")
        return _ENCODER.encode(record) + b"\n"


_FORMS: dict[Form, Callable[[], Callable[[Access], bytes]]] = {
    "common": _CommonLine,
    "combined": _CombinedLine,
    "json": _JsonLine,
}


def _private(path: str, flags: int) -> int:
    """Where people have been is not for everybody on the machine."""
    return os.open(path, flags, 0o640)


def checkAccessLog(destination: str) -> None:
    """
    Find out whether there can be an access log, without making one, which would be the file of whoever asks.

    @param destination: as for L{AccessLog}.
    @raise OSError: it cannot be opened, or made.
    """
    if destination in ("", STANDARD_OUTPUT):
        return
    try:
        os.close(os.open(destination, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
    except FileNotFoundError:
        directory = os.path.dirname(destination) or "."
        os.stat(directory)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(EACCES, os.strerror(EACCES), destination) from None


class AccessLog:
    """
    @param destination: a file, to which lines are added; C{-} for standard output; empty for none.
    @raise OSError: the file cannot be opened.
    @ivar isOn: whether there is anything to say it to.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, destination: str = "", form: Form = "combined") -> None:
        self._file: FileIO | None = None
        self._lines: list[bytes] = []
        self._size = 0
        self._timer = Timer(clock)
        self._isFailing = False
        self.open(destination, form)

    @property
    def isOn(self) -> bool:
        return self._file is not None

    def open(self, destination: str, form: Form) -> None:
        """
        Write there from now on, in that form, also if it is the same as before: another file may be there by now.

        @raise OSError: the file cannot be opened. All stays as it was.
        """
        file = None
        if destination == STANDARD_OUTPUT:
            file = FileIO(1, "w", closefd=False)
        elif destination:
            file = FileIO(destination, "a", opener=_private)
        self.close()
        self._file = file
        self._format = _FORMS[form]()

    def close(self) -> None:
        """Write what is left to be written. Nothing is taken any more."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, access: Access) -> None:
        """Say what became of a request. Only where C{isOn}."""
        line = self._format(access)
        self._lines.append(line)
        self._size += len(line)
        if self._size >= FLUSH_BYTES:
            self.flush()
        elif not self._timer.isRunning:
            self._timer.start(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what there is. What cannot be written is lost: a full disk is no reason to serve nobody."""
        self._timer.stop()
        if not self._lines or self._file is None:
            return
        data, count = memoryview(b"".join(self._lines)), len(self._lines)
        self._lines.clear()
        self._size = 0
        try:
            while data:
                written = self._file.write(data)
                if written is None:
                    raise BlockingIOError(EAGAIN, "nobody reads it")
                data = data[written:]
        except OSError as e:
            if not self._isFailing:
                self._log.error(
                    "the access log cannot be written, {count} lines are lost: {problem}",
                    event="http.access-log-failed",
                    count=count,
                    problem=e.strerror or str(e),
                )
            self._isFailing = True
        else:
            self._isFailing = False
