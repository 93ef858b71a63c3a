"""
Tests for the way of an access client through its relay, in both dialects: the network and the clock are not real.
"""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.grant import EVERYTHING
from gateway.domain.rules import parseRuleLine
from gateway.net.dial import DialFailed
from gateway.service.networkrelay.accessclientendpoint import AccessTarget
from gateway.service.networkrelay.accessclientjson import LINGER
from gateway.wire.networkrelay import ClientData, Error, StartOk, encode
from gateway.wire.preamble import Target
from tests.net.sides import Peer, pattern
from tests.service.networkrelay.edgefixture import JsonPeer, Relay
from tests.service.tunnelfixture import SECRET

SSH = AccessTarget("box", "10.0.0.1", 22, "tcp")
DNS = AccessTarget("box", "10.0.0.1", 53, "udp")


class TargetTests(SynchronousTestCase):
    """L{AccessTarget} names what is behind an agent."""

    def test_name(self) -> None:
        """A name or an address is said as it is, an IPv6 address as one label, and an agent's name as its label."""
        for target, name in (
            (SSH, "10.0.0.1.via.box.agent"),
            (replace(SSH, host="DB.internal."), "db.internal.via.box.agent"),
            (replace(SSH, host="::1"), "0000-0000-0000-0000-0000-0000-0000-0001.via.box.agent"),
            (replace(SSH, agent="My_Box"), "10.0.0.1.via.my-box-3485ebdc.agent"),
        ):
            self.assertEqual(target.name(), Target(name, 22))

    def test_noHost(self) -> None:
        """What can be no host is refused at once."""
        self.assertRaises(ValueError, AccessTarget, "box", "no host", 22, "tcp")


class AccessTestCase(SynchronousTestCase):
    """A relay."""

    def setUp(self) -> None:
        self.relay = Relay(grant=replace(EVERYTHING, targets=(parseRuleLine("allow *.agent"),)))
        self.attempts = self.relay.network.attempts

    def connect(self, endpoint: Any) -> tuple[Peer, Deferred[IProtocol]]:
        """Connect, and return whom, and what becomes of it."""
        peer = Peer()
        connecting = endpoint.connect(Factory.forProtocol(lambda: peer))
        self.relay.pump()
        return peer, connecting

    def assertFails(self, connecting: Deferred[IProtocol], part: str) -> None:
        """It fails in words that have a part."""
        self.assertIn(part, self.failureResultOf(connecting, DialFailed).value.details)


class OwnDialectTests(AccessTestCase):
    """With a relay of ours a connection is a stream in the agent protocol, from end to end."""

    def setUp(self) -> None:
        super().setUp()
        self.relay.edge().start()
        self.relay.acceptOwn()

    def test_connection(self) -> None:
        """Bytes go both ways through relay and agent, and each direction ends alone."""
        endpoint = self.relay.access(SSH)
        peer, connecting = self.connect(endpoint)
        self.relay.acceptOwn()
        origin = self.relay.originAccepts()
        self.successResultOf(connecting)
        self.assertEqual(self.relay.targets.asked, [("10.0.0.1", 22, False)])
        peer.transport.write(b"hello")
        peer.transport.loseWriteConnection()
        self.relay.pump()
        self.assertEqual((bytes(origin.received), origin.ended), (b"hello", True))
        origin.transport.write(b"world")
        origin.transport.loseConnection()
        self.relay.pump()
        self.assertEqual((bytes(peer.received), peer.ended), (b"world", True))

    def test_shared(self) -> None:
        """Connections share a session."""
        endpoint = self.relay.access(SSH)
        self.connect(endpoint)
        self.relay.acceptOwn()
        self.connect(endpoint)
        self.assertEqual((len(self.attempts), len(self.relay.origins.attempts)), (2, 2))

    def test_targetRefuses(self) -> None:
        """Why a target was not reached comes all the way."""
        _, connecting = self.connect(self.relay.access(SSH))
        self.relay.acceptOwn()
        self.relay.origins.attempts[-1].fail(ConnectionRefusedError())
        self.relay.pump()
        self.assertFails(connecting, "The connection was refused.")

    def test_wrongSecret(self) -> None:
        """So does that the secret is wrong."""
        _, connecting = self.connect(self.relay.access(SSH, secret="wrong"))
        self.relay.acceptOwn()
        self.assertFails(connecting, "does not know")

    def test_close(self) -> None:
        """All is over when the relay has heard of it."""
        endpoint = self.relay.access(SSH)
        peer, _ = self.connect(endpoint)
        self.relay.acceptOwn()
        self.relay.originAccepts()
        gone = endpoint.close()
        self.assertNoResult(gone)
        self.relay.pump()
        self.successResultOf(gone)
        self.assertIsNotNone(peer.reason)

    def test_relayLost(self) -> None:
        """A relay that is lost ends all connections, and the endpoint knows that it was the relay."""
        endpoint = self.relay.access(SSH)
        peer, _ = self.connect(endpoint)
        self.relay.acceptOwn()
        self.relay.originAccepts()
        self.assertEqual(endpoint.problem, "")
        self.relay.links[-2].b.abortConnection()
        self.relay.pump()
        assert peer.reason is not None and not peer.reason.check(ConnectionDone)
        self.assertIn("relay", endpoint.problem)


class JsonTests(AccessTestCase):
    """With another relay each connection has a WebSocket, in http-network-relay's messages."""

    def opened(self) -> tuple[JsonPeer, Peer]:
        """A connection that stands: the relay, and who connected."""
        self.endpoint = self.relay.access(SSH)
        peer, connecting = self.connect(self.endpoint)
        relay = self.relay.acceptJson()
        self.relay.say(relay, StartOk("c1"))
        self.successResultOf(connecting)
        relay.take()
        return relay, peer

    def test_start(self) -> None:
        """The first message is as the original's; the connection stands once the relay says so."""
        _, connecting = self.connect(self.relay.access(SSH))
        relay = self.relay.acceptJson()
        (start,) = relay.take()
        self.assertEqual(
            json.loads(start),
            {
                "inner": {
                    "kind": "start",
                    "connection_target": "box",
                    "target_ip": "10.0.0.1",
                    "target_port": 22,
                    "protocol": "tcp",
                    "secret": SECRET,
                }
            },
        )
        self.assertNoResult(connecting)
        self.relay.say(relay, StartOk())
        self.successResultOf(connecting)
        self.assertEqual(len(self.attempts), 1)

    def test_payload(self) -> None:
        """Payload goes both ways, and where more is written than fits, in several messages."""
        relay, peer = self.opened()
        self.relay.say(relay, ClientData(b"hel", "c1"), ClientData(b"lo"))
        self.assertEqual(bytes(peer.received), b"hello")
        peer.transport.write(b"world")
        self.relay.pump()
        data = b64encode(b"world").decode()
        (message,) = relay.take()
        self.assertEqual(json.loads(message), {"inner": {"kind": "tcp_data", "data_base64": data}})
        peer.transport.write(pattern(200_000))
        self.relay.pump()
        self.assertEqual(len(relay.take()), 4)

    def test_errors(self) -> None:
        """What the relay says is told."""
        for text in ("Invalid access client secret", "Agent not registered", "Error initiating connection: no"):
            _, connecting = self.connect(self.relay.access(SSH))
            relay = self.relay.acceptJson()
            self.relay.say(relay, Error(text))
            self.assertFails(connecting, text)
            self.assertTrue(relay.isEnded)

    def test_noAnswer(self) -> None:
        """A relay that leaves without an answer is told of."""
        _, connecting = self.connect(self.relay.access(SSH))
        self.relay.acceptJson().channel.close(1000)
        self.relay.pump()
        self.assertFails(connecting, "without an answer")

    def test_cancelled(self) -> None:
        """Who does not wait any longer is gone from the relay."""
        _, connecting = self.connect(self.relay.access(SSH))
        relay = self.relay.acceptJson()
        connecting.cancel()
        self.relay.pump()
        self.failureResultOf(connecting)
        self.assertIsNotNone(relay.end)

    def test_malformed(self) -> None:
        """What is no message, or out of turn, ends the connection with a reason."""
        for text in ("", "{", '{"inner": {"kind": "keep_alive"}}', encode(StartOk("again"))):
            relay, peer = self.opened()
            self.relay.say(relay, text)
            assert peer.reason is not None and not peer.reason.check(ConnectionDone), text
            self.assertIn("does not keep to the protocol", self.endpoint.problem)
            self.assertIsNotNone(relay.end)
        _, connecting = self.connect(self.relay.access(SSH))
        self.relay.say(self.relay.acceptJson(), ClientData(b"too early"))
        self.assertFails(connecting, "out of turn")

    def test_ends(self) -> None:
        """A proper end of the WebSocket is the end of the connection; anything else is not."""
        relay, peer = self.opened()
        self.relay.say(relay, ClientData(b"last words"))
        relay.channel.close(1000)
        self.relay.pump()
        assert peer.reason is not None and peer.reason.check(ConnectionDone)
        self.assertEqual(bytes(peer.received), b"last words")
        relay, peer = self.opened()
        relay.channel.abortConnection()
        self.relay.pump()
        assert peer.reason is not None and not peer.reason.check(ConnectionDone)
        self.assertIn("lost", self.endpoint.problem)

    def test_restart(self) -> None:
        """A relay that closes for a reason of its own, however properly, is no end of the target's."""
        for code in (1001, 1011, 1012):
            relay, peer = self.opened()
            relay.channel.close(code)
            self.relay.pump()
            assert peer.reason is not None and not peer.reason.check(ConnectionDone), code
            self.assertEqual(self.endpoint.problem, "The relay ended the connection.")

    def test_errorMeanwhile(self) -> None:
        """What the relay says of a connection's end is kept for a person."""
        relay, peer = self.opened()
        self.relay.say(relay, Error("The agent is gone"))
        assert peer.reason is not None and not peer.reason.check(ConnectionDone)
        self.assertEqual(self.endpoint.problem, "The agent is gone")

    def test_ownEndIsNotTold(self) -> None:
        """There is no word for the end of one direction: the other one goes on."""
        relay, peer = self.opened()
        peer.transport.write(b"question")
        peer.transport.loseWriteConnection()
        self.relay.pump()
        self.relay.say(relay, ClientData(b"answer"))
        self.assertEqual(bytes(peer.received), b"answer")
        self.assertIsNone(relay.end)

    def test_silence(self) -> None:
        """Some agents do not tell the end of their side either: a minute without a byte is one."""
        relay, peer = self.opened()
        peer.transport.loseWriteConnection()
        self.relay.wait(LINGER - 0.25)
        self.relay.say(relay, ClientData(b"slow answer"))
        self.relay.wait(LINGER - 0.25)
        self.assertIsNone(peer.reason)
        self.relay.wait(0.5)
        assert peer.reason is not None and peer.reason.check(ConnectionDone)
        self.assertTrue(relay.isEnded)

    def test_slowReader(self) -> None:
        """Who does not read stops the reading of the WebSocket, and loses nothing."""
        relay, peer = self.opened()
        peer.transport.pauseProducing()
        for _ in range(40):
            relay.channel.sendText(encode(ClientData(pattern(60_000))))
        self.relay.pump()
        self.assertLess(len(peer.received), 200_000)
        peer.transport.resumeProducing()
        self.relay.pump()
        self.assertEqual(bytes(peer.received), pattern(60_000) * 40)

    def test_datagrams(self) -> None:
        """Datagrams need a relay of ours, which is said."""
        _, connecting = self.connect(self.relay.access(DNS))
        relay = self.relay.acceptJson()
        self.assertFails(connecting, "carry tcp alone")
        self.assertEqual(relay.take(), [])

    def test_several(self) -> None:
        """Connections that are wanted at once each get a WebSocket, one after the other."""
        endpoint = self.relay.access(SSH)
        connecting = [self.connect(endpoint)[1] for _ in range(3)]
        for number in range(3):
            self.assertEqual(len(self.attempts), number + 1)
            self.relay.say(self.relay.acceptJson(), StartOk())
        for each in connecting:
            self.successResultOf(each)

    def test_relayIsExchanged(self) -> None:
        """Each connection finds out anew what the relay speaks."""
        endpoint = self.relay.access(SSH)
        _, first = self.connect(endpoint)
        self.relay.say(self.relay.acceptJson(), StartOk())
        self.successResultOf(first)
        self.relay.edge().start()
        self.relay.acceptOwn()
        _, second = self.connect(endpoint)
        self.relay.acceptOwn()
        self.relay.originAccepts()
        self.successResultOf(second)

    def test_noRelay(self) -> None:
        """That the relay cannot be reached is told from that the target cannot."""
        _, connecting = self.connect(self.relay.access(SSH))
        self.attempts[-1].fail(ConnectionRefusedError())
        self.assertFails(connecting, "The relay cannot be reached: The connection was refused.")
