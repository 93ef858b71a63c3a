"""
slowhttptest: 1,000 who hold on to connections by being slow, and visitors beside them.
"""

from __future__ import annotations

import http.client
from pathlib import Path

from tests.interop.http.website import NAME, WebTestCase
from tests.interop.running import program, start
from tests.interop.tunnels import MIB
from tests.processes import HERE, SECONDS, eventually

SLOW = (
    ("-H", "-i", "1"),  # heads that go on and on
    ("-B", "-t", "PUT", "-i", "1", "-s", "100000"),  # bodies that come a few bytes at a time
    ("-X", "-n", "1", "-z", "1", "-w", "1", "-y", "2"),  # answers that are hardly taken
)

EACH = 334

_LIMITS = """
per-address = 0
new-per-second-per-address = 0
undecided-per-address = 2000
requests-per-address = 0
head-timeout = 6
body-grace = 6
take-timeout = 6
keep-alive-timeout = 6
"""
"""All of them come from one address, which would not get far otherwise."""


class SlowTests(WebTestCase):
    """Those who are slow are cut off, and others served meanwhile."""

    deadline = 120

    def slow(self, *options: str) -> None:
        """Be slow in one way."""
        url, door = f"http://{NAME}:{self.running.http}/big", f"{HERE}:{self.running.http}"
        count = ("-c", str(EACH), "-r", str(EACH), "-l", "90")
        start(self, program("slowhttptest"), *options, *count, "-u", url, "-d", door)

    def held(self) -> int:
        """How many connections, and a few other things, the gateway has open."""
        return len(list(Path(f"/proc/{self.running.process.pid}/fd").iterdir()))

    def visit(self) -> None:
        """Get a page as somebody else."""
        visitor = http.client.HTTPConnection(HERE, self.running.http, SECONDS, ("127.0.0.9", 0))
        visitor.request("GET", "/page", headers={"Host": NAME})
        self.assertEqual(visitor.getresponse().read(), b"0123456789")
        visitor.close()

    def test_allAtOnce(self) -> None:
        """As long as they are there, visitors are served as ever; and it is not long until all are gone."""
        site = self.nginx()
        (site.files / "page").write_text("0123456789")
        (site.files / "big").write_bytes(bytes(MIB))
        self.publish(site.port, limits=_LIMITS)
        before = self.held()
        for options in SLOW:
            self.slow(*options)
        self.assertTrue(eventually(lambda: self.held() >= before + EACH * len(SLOW) * 0.9), self.held())
        served = 0
        while self.held() > before + len(SLOW):  # each of the three makes one more, to see whether anybody answers
            self.visit()
            served += 1
        self.assertGreater(served, 20)
