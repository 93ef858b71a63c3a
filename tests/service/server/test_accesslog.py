"""
Tests for the access log.
"""

import json
import os
import re
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from gateway.service.server.accesslog import (
    FLUSH_BYTES,
    FLUSH_SECONDS,
    LONGEST,
    Access,
    AccessLog,
    Form,
    checkAccessLog,
)
from gateway.wire.http1 import RequestHead

HEAD = RequestHead(
    "GET", "/a?b=c", "1.1", [("host", "app.example.com"), ("referer", "https://b.example/"), ("user-agent", "curl/8.5")]
)
ACCESS = Access(
    started=1_767_225_599.25,
    visitor="192.0.2.7",
    head=HEAD,
    status=200,
    up=3,
    down=5120,
    seconds=0.0123456,
    firstByte=0.01,
    dial=0.0,
    id="3f6c-1",
    route="app.example.com",
    agent="alice",
)

COMMON = r'\S+ - \S+ \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "[^"]*" \d{3} \d+'
"""A line of the Common Log Format."""


class AccessLogTests(SynchronousTestCase):
    """
    L{AccessLog}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = Path(self.mktemp()).absolute()

    def written(self) -> list[str]:
        """The lines in the file."""
        return self.path.read_text("ascii").splitlines(keepends=True)

    def line(self, form: Form, access: Access) -> str:
        """The only line of a log in which this happened."""
        log = AccessLog(self.clock, str(self.path), form)
        log.add(access)
        log.close()
        (line,) = self.written()
        self.path.unlink()
        self.assertTrue(line.endswith("\n"))
        return line[:-1]

    def record(self, **changes: Any) -> dict[str, Any]:
        """A line of JSON."""
        found = json.loads(self.line("json", replace(ACCESS, **changes)))
        assert isinstance(found, dict)
        return found

    def test_common(self) -> None:
        """The common format is that of other web servers."""
        self.assertEqual(
            self.line("common", ACCESS),
            '192.0.2.7 - - [31/Dec/2025:23:59:59 +0000] "GET /a?b=c HTTP/1.1" 200 5120',
        )

    def test_combined(self) -> None:
        """So is the combined one, and HTTP/2 is written as they do."""
        access = replace(ACCESS, user="al ice", head=replace(HEAD, version="2", headers=HEAD.headers[:2]))
        self.assertEqual(
            self.line("combined", access),
            '192.0.2.7 - al_ice [31/Dec/2025:23:59:59 +0000] "GET /a?b=c HTTP/2.0" 200 5120 "https://b.example/" "-"',
        )

    def test_unreadable(self) -> None:
        """What was no request has a line, too, as has one whose visitor did not wait for an answer."""
        access = Access(started=0.0, visitor="192.0.2.7")
        self.assertEqual(self.line("combined", access), '192.0.2.7 - - [01/Jan/1970:00:00:00 +0000] "-" 000 0 "-" "-"')
        self.assertEqual(
            json.loads(self.line("json", replace(access, status=400, problem="bad-request")))["status"], 400
        )

    def test_json(self) -> None:
        """JSON has all that is known, with timings, and leaves out what is not."""
        self.assertEqual(
            self.record(),
            {
                "time": "2025-12-31T23:59:59.250+00:00",
                "id": "3f6c-1",
                "visitor": "192.0.2.7",
                "status": 200,
                "up": 3,
                "down": 5120,
                "seconds": 0.012346,
                "firstByte": 0.01,
                "dial": 0.0,
                "scheme": "https",
                "method": "GET",
                "host": "app.example.com",
                "target": "/a?b=c",
                "version": "1.1",
                "referer": "https://b.example/",
                "userAgent": "curl/8.5",
                "route": "app.example.com",
                "agent": "alice",
            },
        )
        changed = self.record(isSecure=False, firstByte=None, problem="origin-refused", cause="far-reset", replica="2")
        self.assertNotIn("firstByte", changed)
        self.assertEqual(
            [changed[key] for key in ("scheme", "problem", "cause")], ["http", "origin-refused", "far-reset"]
        )

    def test_hostile(self) -> None:
        """What a visitor sends ends neither its field nor its line, and is cut where it is long."""
        head = RequestHead("GET", '/" 200 5 "', "1.1", [("user-agent", 'a" "b\\\x1b[2J\u00e9' + "c" * 5000)])
        line = self.line("combined", replace(ACCESS, head=head, user='x" [y\n'))
        self.assertIn('"GET /\\x22 200 5 \\x22 HTTP/1.1" 200', line)
        self.assertIn('"a\\x22 \\x22b\\x5c\\x1b[2J\\xe9ccc', line)
        self.assertIn(" x\\x22_[y\\x0a ", line)
        self.assertLess(len(line), LONGEST + 300)

    @settings(deadline=None, max_examples=100, database=None, derandomize=True)
    @given(st.text(max_size=30), st.text(st.characters(max_codepoint=0xFF), max_size=30), st.text(max_size=30))
    def test_anything(self, target: str, agent: str, user: str) -> None:
        """Whatever is sent, a line of a form is one of that form."""
        access = replace(ACCESS, user=user, head=RequestHead("GET", target, "1.1", [("user-agent", agent)]))
        self.assertRegex(self.line("common", access), re.compile(rf"\A{COMMON}\Z"))
        self.assertRegex(self.line("combined", access), re.compile(rf'\A{COMMON} "[^"]*" "[^"]*"\Z'))
        json.loads(self.line("json", access))

    def test_buffered(self) -> None:
        """Lines are written together, after a second."""
        log = AccessLog(self.clock, str(self.path), "common")
        log.add(ACCESS)
        self.clock.advance(FLUSH_SECONDS / 2)
        log.add(ACCESS)
        self.assertEqual(self.written(), [])
        self.clock.advance(FLUSH_SECONDS / 2)
        self.assertEqual(len(self.written()), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        log.add(ACCESS)
        self.clock.advance(FLUSH_SECONDS)
        self.assertEqual(len(self.written()), 3)
        log.close()

    def test_many(self) -> None:
        """No more than 64 KiB wait."""
        log = AccessLog(self.clock, str(self.path), "common")
        size = len(self.line("common", ACCESS)) + 1
        log.open(str(self.path), "common")
        for _ in range(FLUSH_BYTES // size):
            log.add(ACCESS)
        self.assertEqual(self.written(), [])
        log.add(ACCESS)
        self.assertEqual(len(self.written()), FLUSH_BYTES // size + 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        log.close()

    def test_off(self) -> None:
        """Without a destination there is no log."""
        self.assertFalse(AccessLog(self.clock).isOn)

    def test_reopened(self) -> None:
        """After a rotation lines go to the file that has the name now, and none is lost; the form may be another."""
        log = AccessLog(self.clock, str(self.path), "common")
        log.add(ACCESS)
        rotated = self.path.with_suffix(".1")
        self.path.rename(rotated)
        log.open(str(self.path), "json")
        log.add(ACCESS)
        log.close()
        self.assertEqual(len(rotated.read_text().splitlines()), 1)
        self.assertEqual(json.loads(self.written()[0])["id"], "3f6c-1")
        self.assertFalse(log.isOn)

    def test_cannotBeOpened(self) -> None:
        """A file that cannot be opened leaves everything as it was."""
        self.assertRaises(OSError, AccessLog, self.clock, str(self.path / "x"))
        log = AccessLog(self.clock, str(self.path), "common")
        self.assertRaises(OSError, log.open, str(self.path / "x"), "json")
        log.add(ACCESS)
        log.close()
        self.assertRegex(self.written()[0], COMMON)

    def test_checked(self) -> None:
        """Whether there can be a log is found out without making one, or changing one that is there."""
        for destination in ("", "-", str(self.path)):
            checkAccessLog(destination)
        self.assertFalse(self.path.exists())
        self.path.write_text("kept")
        checkAccessLog(str(self.path))
        self.assertEqual(self.path.read_text(), "kept")

    def test_cannotBe(self) -> None:
        """Where there can be none, that is found out as well."""
        self.assertRaises(FileNotFoundError, checkAccessLog, str(self.path / "access.log"))
        self.assertRaises(IsADirectoryError, checkAccessLog, str(self.path.parent))
        self.patch(os, "access", lambda path, mode: False)  # as root one may do everything
        error = self.assertRaises(PermissionError, checkAccessLog, str(self.path))
        self.assertEqual(error.strerror, "Permission denied")

    def test_private(self) -> None:
        """Not everybody may read where people have been."""
        AccessLog(self.clock, str(self.path)).close()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode) & 0o007, 0)

    def test_full(self) -> None:
        """A full disk costs lines and one event, and nothing else."""
        if not os.path.exists("/dev/full"):
            self.skipTest("there is no /dev/full")
        log = AccessLog(self.clock, "/dev/full", "common")
        with capturedLogs() as events:
            for _ in range(2):
                log.add(ACCESS)
                self.clock.advance(FLUSH_SECONDS)
        failed = [event for event in events if event.get("event") == "http.access-log-failed"]
        self.assertEqual([event["count"] for event in failed], [1])
        log.close()
