"""
Tests for one session of an agent, at whose other end the test says what it likes.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net.mux import MuxSession, MuxSettings
from gateway.service.agent.dialledsession import GOODBYE_TIMEOUT, SessionEnd
from gateway.service.agent.session import ClientSession, ISessionOwner
from gateway.testing import FlowEndpoint, FlowLink, flowPair
from gateway.wire.agentcontrol import Ack, Drain, Message, Ping, Refused, Register, Service, encode
from tests.net.muxpair import Applications
from tests.net.sides import Peer

ACK = Ack(session="s1", ping=15, services=())
SETTINGS = MuxSettings(drainTimeout=86400.0)


@implementer(IStreamClientEndpoint)
class Fleeting:
    """Connects, and has lost the connection by the time that it tells."""

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """To somebody who is gone at once."""
        protocol = factory.buildProtocol(None)  # type: ignore[arg-type]
        assert protocol is not None
        done: Deferred[IProtocol] = Deferred()
        link = flowPair(protocol, Peer())
        link.b.abortConnection()
        link.pump()
        done.callback(protocol)
        return done


@implementer(ISessionOwner)
class SessionTests(SynchronousTestCase):
    """
    L{ClientSession}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.acks: list[Ack] = []
        self.drains: list[Drain] = []
        self.ends: list[SessionEnd] = []
        self.network = FlowEndpoint()
        self.streams = Applications(Peer)
        self.visitors = Applications(Peer)
        register = Register(version=1, agent="box")
        self.session = ClientSession(self.clock, self, register, self.visitors, settings=SETTINGS)

    def gotAck(self, session: ClientSession, ack: Ack) -> None:
        """Remember it."""
        self.acks.append(ack)

    def gotDrain(self, session: ClientSession, drain: Drain) -> None:
        """Remember it."""
        self.drains.append(drain)

    def sessionOver(self, session: ClientSession, end: SessionEnd) -> None:
        """Remember why."""
        self.ends.append(end)

    def begin(self, *messages: Message) -> None:
        """The session is connected, and the gateway says these."""
        self.session.connect(self.network)
        self.gateway = MuxSession(self.clock, client=False, factory=self.streams, settings=SETTINGS)
        self.link: FlowLink = self.network.attempts[0].accept(self.gateway)
        self.pump()
        for message in messages:
            self.say(encode(message))

    def say(self, data: bytes) -> None:
        """The gateway says something on the control stream."""
        self.streams.made[0].transport.write(data)
        self.pump()

    def heard(self) -> bytes:
        """What the gateway has heard after the registration."""
        received: bytes = bytes(self.streams.made[0].received)
        return received.partition(b"\n")[2]

    def pump(self) -> None:
        """Let everything happen that takes no time."""
        for _ in range(20):
            self.clock.advance(0)
            self.link.pump()

    def visit(self) -> tuple[Any, Any]:
        """A visitor's stream: the gateway's end of it, and the agent's."""
        peer = Peer()
        self.gateway.open(Factory.forProtocol(lambda: peer))
        self.pump()
        return peer, self.visitors.made[-1]

    def test_register(self) -> None:
        """The registration is the first message, at once."""
        self.begin()
        self.assertEqual(bytes(self.streams.made[0].received), encode(Register(version=1, agent="box")))
        self.say(encode(ACK))
        self.assertEqual(self.acks, [ACK])

    def test_ping(self) -> None:
        """A ping is answered."""
        self.begin(ACK, Ping(id=7))
        self.assertEqual(self.heard(), b'{"type":"pong","id":7}\n')

    def test_pingInterval(self) -> None:
        """The gateway says how often this end pings, and so how soon it notices that the gateway is gone."""
        self.begin(ACK)
        self.say(encode(Ack(session="s1", ping=2.0, services=())))
        self.clock.advance(2.0)
        self.pump()
        self.link.cut()
        self.clock.pump([2.0, 1.9])
        self.assertEqual(self.ends, [])
        self.clock.advance(0.1)
        self.pump()
        self.assertEqual(self.ends, [SessionEnd("The gateway does not answer any more.")])

    def test_update(self) -> None:
        """An update has a number of its own."""
        self.begin(ACK)
        self.session.update((Service(key="ssh", kind="tcp"),), targets=True)
        self.pump()
        expected = b'{"type":"update","services":[{"key":"ssh","kind":"tcp"}],"targets":true,"request":1}\n'
        self.assertEqual(self.heard(), expected)

    def test_refused(self) -> None:
        """A refusal is the end, before an answer and after one."""
        for messages in ((), (ACK,)):
            self.setUp()
            self.begin(*messages, Refused(code="unauthorized", details="No."))
            self.assertEqual(self.ends, [SessionEnd("No.", "unauthorized")])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nonsense(self) -> None:
        """What is no message ends the session, and the gateway is told why."""
        self.begin(ACK)
        self.say(b"hello\n")
        self.assertIn(b'"code":"invalid-message"', self.heard())
        (end,) = self.ends
        self.assertEqual((end.problem[:42], end.code), ("The gateway does not keep to the protocol:", ""))

    def test_firstMessage(self) -> None:
        """So does a message out of turn."""
        self.begin(Ping(id=1))
        self.assertIn(b'"code":"unexpected-message"', self.heard())
        self.assertEqual(len(self.ends), 1)

    def test_controlStreamLost(self) -> None:
        """Without the control stream there is no session."""
        self.begin(ACK)
        self.streams.made[0].transport.loseConnection()
        self.pump()
        self.assertEqual(len(self.ends), 1)

    def test_endings(self) -> None:
        """How the connection ended is told apart."""
        for end, problem in (
            ("loseConnection", "The gateway closed the connection."),
            ("abortConnection", "The connection to the gateway was lost."),
        ):
            self.setUp()
            self.begin(ACK)
            getattr(self.link.b, end)()
            self.gateway._carrier.unregisterProducer()
            self.pump()
            self.assertEqual(self.ends, [SessionEnd(problem)])

    def test_notReached(self) -> None:
        """A dial that fails is the end of it."""
        self.session.connect(self.network)
        self.network.attempts[0].fail(ConnectionRefusedError())
        self.assertEqual(self.ends, [SessionEnd("The connection was refused.")])

    def test_lostAtOnce(self) -> None:
        """So is a connection that is gone before anybody heard of it, once."""
        self.session.connect(Fleeting())
        self.assertEqual(self.ends, [SessionEnd("The connection to the gateway was lost.")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drain(self) -> None:
        """The gateway is told, no stream is taken any more, and the last one ends the session."""
        self.begin(ACK)
        peer, stream = self.visit()
        self.session.drain(30, "Bye.")
        self.pump()
        self.assertEqual(self.heard(), b'{"type":"drain","seconds":30,"reason":"Bye."}\n')
        self.assertEqual(self.gateway._session.openRefusal, "going-away")
        stream.transport.write(b"x" * 100_000)
        stream.transport.loseConnection()
        self.pump()
        self.assertEqual(len(peer.received), 100_000)
        peer.transport.loseConnection()
        self.pump()
        self.clock.advance(0.5)
        self.pump()
        self.assertEqual(len(self.ends), 1)

    def test_drainDeadGateway(self) -> None:
        """A gateway that takes nothing any more is cut off when the time is up and a little has passed."""
        self.begin(ACK)
        self.session.drain(10, "Bye.")
        self.link.cut()
        self.clock.advance(10)
        self.link.pump()
        self.clock.advance(GOODBYE_TIMEOUT - 0.1)
        self.link.pump()
        self.assertEqual(self.ends, [])
        self.clock.advance(0.2)
        self.link.pump()
        self.assertEqual(len(self.ends), 1)

    def test_close(self) -> None:
        """An attempt and a session can be ended at any time."""
        self.session.connect(self.network)
        self.session.close()
        self.assertTrue(self.network.attempts[0].cancelled)
        self.assertEqual(self.ends, [SessionEnd("The agent ended the session.")])
        self.setUp()
        self.begin(ACK)
        peer, _ = self.visit()
        self.session.close()
        self.pump()
        self.assertEqual(self.ends, [SessionEnd("The agent ended the session.")])
        self.assertIsNotNone(peer.reason)
