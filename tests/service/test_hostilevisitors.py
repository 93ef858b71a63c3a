"""
Tests that no visitor leaves anything behind, whatever they send, however they leave.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.service.server.doorsfixture import ENDED, OWN, PASSED, WEB, Doors, clientHello

GET = b"GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n"
BEGINNINGS = [
    b"",
    GET,
    GET.replace(b"app.", b"nobody."),
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
    *map(clientHello, ("tls.example.com", "raw.example.com", "app.example.com", "nobody.example", OWN, None)),
]
LEAVING = ["end", "abort", "half", "stay"]


class HostileTests(SynchronousTestCase):
    """
    All doors.
    """

    @given(
        door=st.sampled_from(["tls", "http", "agentPort"]),
        beginning=st.sampled_from(BEGINNINGS),
        cut=st.integers(0, 600),
        noise=st.binary(max_size=300),
        chunkSize=st.sampled_from([1, 7, 65536]),
        leaving=st.sampled_from(LEAVING),
        origin=st.sampled_from(["accepts", "refuses", "hangs"]),
    )
    @settings(deadline=None, max_examples=150, database=None, derandomize=True)
    def test_nothingIsLeft(
        self, door: str, beginning: bytes, cut: int, noise: bytes, chunkSize: int, leaving: str, origin: str
    ) -> None:
        """After an hour there is no connection, no visit, no count and no defect."""
        doors = Doors()
        doors.attached("box", WEB, PASSED, ENDED)
        timers = len(doors.clock.getDelayedCalls())
        with capturedLogs() as events:
            visitor = doors.come(getattr(doors, door).arrive, chunkSize=chunkSize)
            visitor.transport.write(beginning[:cut] + noise)
            doors.pump()
            if doors.origins.attempts and origin == "accepts":
                doors.originAccepts().transport.loseConnection()
            elif doors.origins.attempts and origin == "refuses":
                doors.origins.attempts[-1].fail(ConnectionRefusedError())
            doors.pump()
            if leaving == "end":
                visitor.transport.loseConnection()
            elif leaving == "abort":
                visitor.transport.abortConnection()
            elif leaving == "half":
                visitor.transport.loseWriteConnection()
            doors.pump()
            doors.wait(25)
            if leaving == "stay" or origin == "accepts":
                visitor.transport.abortConnection()
            doors.pump()
            doors.wait(65)
        self.assertEqual([each for each in events if each.get("event") == "gateway.defect"], [])
        self.assertEqual(doors.visitors.visits, set())
        self.assertEqual(doors.admission.connections, 0)
        self.assertEqual(len(doors.door.sessions), 1)
        self.assertLessEqual(len(doors.clock.getDelayedCalls()), timers + 1, "the sum of refusals may be pending")
