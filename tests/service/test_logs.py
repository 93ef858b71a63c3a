"""Tests for L{gateway.service.logs}: lines for people, JSON for machines, and refusals without a line each."""

import io
import json
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.python.log import LogPublisher as LegacyPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.service.logs import RefusalLog, chooseObserver, jsonObserver, textObserver
from tests.service.tabby.tabbyfixture import GatewayTestCase


class ObserverTestCase(SynchronousTestCase):
    """With a logger whose lines come here."""

    def setUp(self) -> None:
        self.stream = io.StringIO()

    def loggerTo(self, observer: ILogObserver) -> Logger:
        """A logger of the Tabby door."""
        return Logger("gateway.service.tabby.visit", observer=LogPublisher(observer))

    @property
    def lines(self) -> list[str]:
        """What was written."""
        text = self.stream.getvalue()
        self.assertTrue(not text or text.endswith("\n"))
        return text.split("\n")[:-1]


class FloodTests(ObserverTestCase):
    """What strangers can cause does not fill the disk."""

    def setUp(self) -> None:
        super().setUp()
        self.observer = jsonObserver(self.stream)
        self.now = 1e9

    def say(self, name: str, count: int) -> list[dict[str, Any]]:
        """So many events in one instant. What was written of them."""
        before = len(self.lines)
        for _ in range(count):
            self.observer({"log_format": "x", "log_level": LogLevel.info, "log_time": self.now, "event": name})
        return [json.loads(line) for line in self.lines[before:]]

    def test_floodsAreCounted(self) -> None:
        """So many lines of an event are written at once and so many a second; the others are counted with the next."""
        self.assertEqual(len(self.say("door.refused", 200)), 200)
        self.assertEqual(self.say("door.refused", 7), [])
        self.now += 0.0625
        said = self.say("door.refused", 2)
        self.assertEqual([each["event"] for each in said], ["gateway.left-out", "door.refused"])
        self.assertEqual((said[0]["count"], said[0]["of"]), (7, "door.refused"))

    def test_othersAreWritten(self) -> None:
        """A flood of one event keeps no other from being written, nor what only those who are known can cause."""
        self.say("door.refused", 300)
        self.assertEqual(len(self.say("agent.refused", 1)), 1)
        self.assertEqual(len(self.say("visit.closed", 300)), 300)


class JSONTests(ObserverTestCase):
    """L{jsonObserver}."""

    def setUp(self) -> None:
        super().setUp()
        self.log = self.loggerTo(jsonObserver(self.stream))

    @property
    def record(self) -> dict[str, Any]:
        """The one line that was written."""
        (line,) = self.lines
        record = json.loads(line)
        assert isinstance(record, dict)
        return record

    def assertStableKeys(self) -> dict[str, Any]:
        """The line begins with the keys that every line has."""
        record = self.record
        self.assertEqual(list(record)[:4], ["time", "level", "event", "source"])
        return record

    def test_facts(self) -> None:
        """An event is a time in UTC, a level, its name, its source and its facts; numbers stay numbers."""
        self.log.info("opened {who}", event="tabby.opened", who="alice", up=7, seconds=1.5, new=True, none=None)
        record = self.assertStableKeys()
        self.assertRegex(record.pop("time"), r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00\Z")
        self.assertEqual(
            record,
            {
                "level": "info",
                "event": "tabby.opened",
                "source": "tabby",
                "who": "alice",
                "up": 7,
                "seconds": 1.5,
                "new": True,
                "none": None,
            },
        )

    def test_oddFacts(self) -> None:
        """Facts of other types become text, and no text can break the line or the JSON."""
        self.log.error(
            "x", event="e", a=ValueError("v"), b=b"\xff", c=[1], d='"\n\x00\x1b\u2028', e="\ud800", f=float("nan")
        )
        record = self.assertStableKeys()
        self.assertEqual((record["a"], record["c"], record["d"]), ("v", "[1]", '"\n\x00\x1b\u2028'))
        self.assertEqual((record["e"], record["f"], record["level"]), ("\\ud800", None, "error"))

    def test_failure(self) -> None:
        """A failure is one line with the traceback as text, and no key that other lines do not have."""
        try:
            raise KeyError("inner\nline")
        except KeyError:
            self.log.failure("it broke: {what}", what="x")
        record = self.assertStableKeys()
        self.assertEqual((record["event"], record["level"]), ("log", "critical"))
        self.assertIn("it broke: x\nTraceback", record["text"])
        self.assertEqual(set(record), {"time", "level", "event", "source", "text", "what"})

    def test_failureWithAName(self) -> None:
        """A failure with an event name keeps its traceback."""
        self.log.failure("broken", Failure(ValueError("v")), event="tabby.broken")
        self.assertIn("ValueError", self.record["text"])

    def test_legacyMessages(self) -> None:
        """Lines of Twisted's older log, errors included, have the same keys."""
        legacy = LegacyPublisher(LogPublisher(jsonObserver(self.stream)), LogPublisher(jsonObserver(self.stream)))
        legacy.msg("an old\nmessage", system="-")
        record = self.assertStableKeys()
        self.assertEqual((record["event"], record["text"]), ("log", "an old\nmessage"))
        self.stream.truncate(self.stream.seek(0))
        legacy.msg(failure=Failure(ValueError("v")), why="because", isError=1)
        record = self.assertStableKeys()
        self.assertIn("ValueError", record["text"])
        self.assertEqual(set(record), {"time", "level", "event", "source", "text"})

    def test_brokenFormat(self) -> None:
        """An event whose format cannot be used is still a line."""
        self.log.info("{missing}", x=1)
        self.assertIn("missing", self.assertStableKeys()["text"])

    def test_level(self) -> None:
        """Debug events are left out."""
        self.log.debug("noise")
        self.assertEqual(self.lines, [])


class DescriptorTests(ObserverTestCase):
    """What Twisted says when a process is out of descriptors."""

    def test_oneEvent(self) -> None:
        """However much that is, it is one event at once, and one more when it goes on for longer than the interval."""
        observer = jsonObserver(self.stream)
        for second in (0.0, 0.0, 9.9, 10.0, 10.1):
            for text in (
                "EMFILE encountered; releasing reserved file descriptor.",
                "EMFILE recovery: Closed {address}",
            ):
                observer({"log_time": second, "log_level": LogLevel.info, "log_format": text, "address": "192.0.2.1"})
        records = [json.loads(line) for line in self.lines]
        self.assertEqual(
            [(each["event"], each["level"]) for each in records], [("gateway.out-of-descriptors", "warn")] * 2
        )


class TextTests(ObserverTestCase):
    """L{textObserver}."""

    def setUp(self) -> None:
        super().setUp()
        self.log = self.loggerTo(textObserver(self.stream))

    def test_line(self) -> None:
        """A line has a time, the source in brackets, and the text."""
        self.log.info("session opened: {who}", event="tabby.opened", who="alice")
        self.assertRegex(self.lines[0], r"\A\d{4}-\S+ \[tabby\S*\] session opened: alice\Z")

    def test_severalLines(self) -> None:
        """Further lines are indented, so that none can pass for an event of its own."""
        self.log.failure("broken", Failure(ValueError("v")))
        self.log.info("one\n2026-01-01T00:00:00+0000 [tabby] two")
        for line in self.lines[1:]:
            self.assertTrue(line.startswith("    ") or "] one" in line, line)

    def test_nothingToSay(self) -> None:
        """An event without a text is no line."""
        self.log.emit(LogLevel.info, None, x=1)
        self.assertEqual(self.lines, [])


class ChooseTests(ObserverTestCase):
    """L{chooseObserver}."""

    def chosen(self, isTerminal: bool, form: str = "auto") -> str:
        """What is written by the observer that is chosen."""
        self.stream.isatty = lambda: isTerminal  # type: ignore[method-assign]
        self.patch(sys, "stdout", self.stream)
        self.loggerTo(chooseObserver(form)).info("x")
        return self.stream.getvalue()

    def test_terminal(self) -> None:
        """A terminal gets lines for people."""
        self.assertIn("] x", self.chosen(True))

    def test_noTerminal(self) -> None:
        """Anything else gets JSON."""
        json.loads(self.chosen(False))

    def test_forced(self) -> None:
        """A form may be asked for wherever it goes."""
        json.loads(self.chosen(True, "json"))


class RefusalLogTests(GatewayTestCase):
    """L{RefusalLog}."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.refusals = RefusalLog(self.clock)
        self.refuse: Callable[[str], None] = lambda reason: self.refusals.refused(reason, "192.0.2.1")

    def sums(self) -> list[tuple[str, int]]:
        """The sums so far."""
        return [(event["reason"], event["count"]) for event in self.logged("gateway.refused-more")]

    def test_firstOfAKind(self) -> None:
        """The first refusal for each reason is a line with the address, at once."""
        for reason in ("banned", "too-many-new", "banned"):
            self.refuse(reason)
        events = [(event["reason"], event["visitor"]) for event in self.logged("gateway.refused")]
        self.assertEqual(events, [("banned", "192.0.2.1"), ("too-many-new", "192.0.2.1")])

    def test_sum(self) -> None:
        """All others within ten seconds are one sum for each reason, and no line when there were none."""
        for reason in ("banned", "banned", "banned", "too-many-new"):
            self.refuse(reason)
        self.clock.advance(9.9)
        self.assertEqual(self.sums(), [])
        self.clock.advance(0.1)
        self.assertEqual(self.sums(), [("banned", 2)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_again(self) -> None:
        """After that it begins anew."""
        self.refuse("banned")
        self.clock.advance(10)
        self.refuse("banned")
        self.assertEqual(len(self.logged("gateway.refused")), 2)

    def test_stop(self) -> None:
        """Stopping says what is left to say, and leaves no timer; stopping twice is harmless."""
        self.refuse("banned")
        self.refuse("banned")
        self.refusals.stop()
        self.refusals.stop()
        self.assertEqual((self.sums(), self.clock.getDelayedCalls()), ([("banned", 1)], []))
