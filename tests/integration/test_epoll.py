"""
Tests for L{gateway.net.epoll}, in a process of its own: a process has one reactor.
"""

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

_PROGRAM = """
from gateway.net.epoll import install
install()

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

class Echo(Protocol):
    def dataReceived(self, data):
        if data == b"raise":
            raise ZeroDivisionError
        self.transport.write(data)

class Client(Protocol):
    def dataReceived(self, data):
        print("heard", data.decode())
        reactor.callLater(0.01, self.transport.write, b"raise")
    def connectionLost(self, reason):
        print("lost")
        reactor.callFromThread(reactor.stop)

async def main(reactor):
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Echo))
    client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), Client())
    client.transport.write(b"hello")

reactor.callWhenRunning(lambda: ensureDeferred(main(reactor)))
reactor.run()
"""


class EPollTests(SynchronousTestCase):
    """The reactor of the C{gateway} command."""

    if sys.platform != "linux":
        skip = "there is epoll on Linux alone"

    def test_events(self) -> None:
        """
        Connections, timers and threads are served, and a protocol that raises loses its connection alone, with a log.
        """
        ran = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=30)
        self.assertEqual(ran.stdout.split("\n"), ["heard hello", "lost", ""], ran.stderr)
        self.assertIn("ZeroDivisionError", ran.stderr)
