"""
Logs: lines for a person on a terminal, JSON lines for everything else.

An event is a constant format and keyword facts; C{event} is its stable name, which
C{docs/reference/logs.md} lists. Whatever has such a name is written as its facts alone, anything else with a
C{text}. The same event reads, on a terminal and in a file::

    2026-01-31T12:00:00+0000 [tabby] session opened: alice to box:22 (192.0.2.7) from 198.51.100.4
    {"time":"2026-01-31T12:00:00.000Z","level":"info","event":"tabby.opened","who":"alice","target":"box:22", ...}
"""

__all__ = ["RefusalLog", "chooseObserver", "jsonObserver", "textObserver"]

import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from math import inf
from typing import IO

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    eventAsText,
    formatEvent,
)
from zope.interface import implementer

from gateway.domain.limits import TokenBucket
from gateway.net.timer import Timer

# What Twisted's older log adds to its events; the text says all of it.
_FACTS_LEFT_OUT = {"failure", "format", "isError", "message", "system", "time", "why"}


def _source(event: LogEvent) -> str:
    namespace = str(event.get("log_namespace") or event.get("log_system") or "-")
    return namespace.removeprefix("gateway.").removeprefix("service.").partition(".")[0]


def _asText(event: LogEvent) -> str | None:
    if event.get("log_format") is None and not event.get("log_failure"):
        text = formatEvent(event)
        if not text:
            return None
    return eventAsText({**event, "log_namespace": _source(event)}, includeSystem=True).replace("\n", "\n    ") + "\n"


def _valid(text: str) -> str:
    """Without lone surrogates, as in a path that is not UTF-8: JSON cannot hold them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _asJSON(event: LogEvent) -> str | None:
    level = event.get("log_level")
    record: dict[str, object] = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": level.name if level is not None else "info",
        "event": event.get("event", "log"),
        "source": _source(event),
    }
    if "event" not in event or "log_failure" in event:
        record["text"] = _valid(eventAsText(event, includeTimestamp=False, includeSystem=False))
    for key, value in event.items():
        if not key.startswith("log_") and key not in _FACTS_LEFT_OUT and key not in record:
            record[key] = value if isinstance(value, int | float | bool | None) else _valid(str(value))
    return msgspec.json.encode(record).decode() + "\n"


_BY_STRANGERS = frozenset(
    {
        "agent.refused",
        "client.ended",
        "client.failed",
        "door.proxy-refused",
        "door.refused",
        "management.failed",
        "management.refused",
        "tabby.failed",
        "tabby.refused",
        "tabby.turned-away",
        "tabby.upgrade-lost",
        "visit.failed",
        "websocket.refused",
    }
)
"""Events that anybody can cause as often as they like."""


class _Quota:
    """How many lines of one event there may be, and how many were left out since the last."""

    PER_SECOND = 20.0
    BURST = 200.0

    def __init__(self, now: float) -> None:
        self.bucket = TokenBucket(self.PER_SECOND, self.BURST, now)
        self.leftOut = 0


@implementer(ILogObserver)
class _Lines:
    """
    Writes events as lines, but for those that are only for debugging.

    What strangers can cause is written up to a rate, and then counted: a log that fills the disk is their work, too.
    When the process is out of descriptors, Twisted closes the connections that come, and says so of each. Here that
    is one event in ten seconds.
    """

    INTERVAL = 10.0

    def __init__(self, stream: IO[str], form: Callable[[LogEvent], str | None]) -> None:
        self._stream = stream
        self._form = form
        self._log = Logger(observer=self)
        self._toldShortage = -inf
        self._quotas: dict[str, _Quota] = {}

    def _isTooMuch(self, name: str, now: float) -> bool:
        quota = self._quotas.get(name)
        if quota is None:
            quota = self._quotas[name] = _Quota(now)
        if not quota.bucket.tryTake(1.0, now):
            quota.leftOut += 1
            return True
        if quota.leftOut:
            count, quota.leftOut = quota.leftOut, 0
            self._log.warn(
                "{count} lines like the next one were left out", event="gateway.left-out", count=count, of=name
            )
        return False

    def __call__(self, event: LogEvent) -> None:
        if (name := event.get("event")) in _BY_STRANGERS and self._isTooMuch(name, event["log_time"]):
            return
        if "EMFILE" in str(event.get("log_format")):
            if event["log_time"] >= self._toldShortage + self.INTERVAL:
                self._toldShortage = event["log_time"]
                self._log.warn(
                    "connections are closed: the process may open no more files (ulimit -n, LimitNOFILE)",
                    event="gateway.out-of-descriptors",
                )
            return
        if event.get("log_level") is not LogLevel.debug and (line := self._form(event)):
            self._stream.write(line)
            self._stream.flush()


def textObserver(stream: IO[str] | None = None) -> ILogObserver:
    """Lines for a person, on standard output by default."""
    return _Lines(stream or sys.stdout, _asText)


def jsonObserver(stream: IO[str] | None = None) -> ILogObserver:
    """One JSON object a line, on standard output by default."""
    return _Lines(stream or sys.stdout, _asJSON)


def chooseObserver(form: str = "auto") -> ILogObserver:
    """
    @param form: C{text}, C{json}, or C{auto}: text on a terminal and JSON otherwise.
    """
    if form == "auto":
        form = "text" if sys.stdout.isatty() else "json"
    return textObserver() if form == "text" else jsonObserver()


class RefusalLog:
    """
    Says that connections are refused, without a line for each: the first of a kind at once, then one sum for every
    ten seconds in which there were more.
    """

    _log = Logger()
    INTERVAL = 10.0

    def __init__(self, clock: IReactorTime) -> None:
        self._counts: Counter[str] = Counter()
        self._timer = Timer(clock)

    def refused(self, reason: str, visitor: str) -> None:
        """A connection from an address was refused."""
        if not self._timer.isRunning:
            self._timer.start(self.INTERVAL, self._sum)
        if reason not in self._counts:
            self._counts[reason] = 0
            self._log.warn(
                "connection refused: {reason}, from {visitor}", event="gateway.refused", reason=reason, visitor=visitor
            )
        else:
            self._counts[reason] += 1

    def _sum(self) -> None:
        counts, self._counts = self._counts, Counter()
        for reason, count in counts.items():
            if count:
                self._log.warn(
                    "{count} more connections refused in {seconds:.0f} seconds: {reason}",
                    event="gateway.refused-more",
                    count=count,
                    seconds=self.INTERVAL,
                    reason=reason,
                )

    def stop(self) -> None:
        """Say what is left to say."""
        if self._timer.isRunning:
            self._timer.stop()
            self._sum()
