"""Tests that hold the page of the agent protocol to the code."""

import re
from enum import StrEnum
from ipaddress import IPv4Address

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire import agentcontrol, datagrams, preamble
from gateway.wire.agentcontrol import (
    Ack,
    ControlReader,
    Credential,
    Drain,
    Ping,
    Pong,
    Refused,
    Register,
    Service,
    ServiceError,
    ServiceStatus,
    SessionError,
    Update,
)
from gateway.wire.datagrams import DatagramDecoder
from gateway.wire.httpoptions import MAX_HEADERS, MAX_PREFIXES, HttpOptions
from gateway.wire.preamble import Answer, Preamble, StreamError, decodeAnswer, encodePreamble, parsePreamble
from gateway.wire.proxyheader import Address, ProxyHeader, Tlv
from tests.documented import namedBlock, tables

PAGE = "reference/protocols/agent.md"


def dump(name: str) -> bytes:
    """The bytes of an example in hexadecimal, whose remarks begin with the first piece that is no byte."""
    found = []
    for line in namedBlock(name).text.splitlines():
        match = re.match(r"(?:[0-9a-f]{2} {1,2})*[0-9a-f]{2}(?= {3}|$)", line)
        assert match is not None, line
        found.append(bytes.fromhex(match[0]))
    return b"".join(found)


class AgentPageTests(SynchronousTestCase):
    """Whoever writes an agent from the page writes one that works."""

    def test_session(self) -> None:
        """The session is one: both ends read every message in its turn, and pongs belong to pings."""
        readers = {"agent": ControlReader(client=False), "gateway": ControlReader(client=True)}
        pings = []
        for line in namedBlock("agent-session").text.splitlines():
            speaker, _, text = line.partition(":")
            (message,) = readers[speaker].receive(text.strip().encode() + b"\n")
            self.assertEqual(
                msgspec.json.decode(text),
                msgspec.json.decode(agentcontrol.encode(message)),
                "default values are left out",
            )
            if isinstance(message, Ping):
                pings.append((speaker, message.id))
            elif isinstance(message, Pong):
                pings.remove(("agent" if speaker == "gateway" else "gateway", message.id))
        self.assertEqual(pings, [])

    def test_credentials(self) -> None:
        """Each kind of credential is shown."""
        lines = namedBlock("agent-credentials").text.splitlines()
        shown = [msgspec.json.decode(line, type=Credential) for line in lines]
        self.assertEqual([type(each) for each in shown], [agentcontrol.SecretCredential, agentcontrol.JwtCredential])

    def test_preamble(self) -> None:
        """The example of a preamble is what the gateway sends, byte for byte."""
        visitor = ProxyHeader(
            Address(IPv4Address("192.0.2.1"), 40000),
            Address(IPv4Address("198.51.100.7"), 443),
            tlvs=((Tlv.AUTHORITY, b"app.example.com"), (Tlv.ALPN, b"h2"), (Tlv.UNIQUE_ID, b"7f3a-1")),
        )
        example = Preamble("web", visitor)
        self.assertEqual(dump("visitor-preamble").hex(" "), encodePreamble(example).hex(" "))
        self.assertEqual(parsePreamble(dump("visitor-preamble")), (example, 66))

    def test_types(self) -> None:
        """The types of the TLVs are right."""
        (rows,) = [rows for rows in tables(PAGE).values() if rows[0][1] == "SERVICE"]
        known = {"SERVICE": preamble.SERVICE} | {each.name: int(each) for each in Tlv}
        for number, name, *_ in rows:
            self.assertEqual(int(number, 16), known[name])
        self.assertEqual(preamble.TARGET, 0xE1)

    def test_answers(self) -> None:
        """The answers are answers."""
        good, bad = (decodeAnswer(line.encode()) for line in namedBlock("stream-answers").text.splitlines())
        self.assertEqual(good, Answer(ok=True))
        self.assertIn(bad.code, list(StreamError))

    def test_datagrams(self) -> None:
        """The datagrams are as the gateway sends them."""
        self.assertEqual(DatagramDecoder().receive(dump("datagrams")), [b"hi", b""])

    def test_fields(self) -> None:
        """Each field of each message is on the page, with its default, and no other is."""
        structs: dict[str, type[msgspec.Struct]] = {
            "`register`": Register,
            "a service": Service,
            "the HTTP options": HttpOptions,
            "`ack`": Ack,
            "a status": ServiceStatus,
            "`update`": Update,
            "`ping` and `pong`": Ping,
            "`drain`": Drain,
            "`refused`": Refused,
            "an answer": Answer,
        }
        page = tables(PAGE)
        listed = {title for title in page if title.startswith("Fields of ")}
        self.assertEqual(listed, {f"Fields of {name}:" for name in structs})
        for name, struct in structs.items():
            rows = {}
            for field, _, default, _ in page[f"Fields of {name}:"]:
                rows[field.strip("`")] = default.strip("`")
            fields = {}
            for each in msgspec.structs.fields(struct):
                fields[each.name] = "" if each.required else msgspec.json.encode(each.default).decode()
            with self.subTest(name):
                self.assertEqual(rows, fields)
        self.assertEqual(msgspec.structs.fields(Ping)[0].name, msgspec.structs.fields(Pong)[0].name)

    def test_codes(self) -> None:
        """Each code is on the page, and no other is."""
        kinds: dict[str, type[StrEnum]] = {
            "`refused`": SessionError,
            "a status": ServiceError,
            "an answer": StreamError,
        }
        for name, kind in kinds.items():
            listed = [row[0].strip("`") for row in tables(PAGE)[f"Codes of {name}:"]]
            self.assertEqual(listed, [str(each) for each in kind])

    def test_sizes(self) -> None:
        """The sizes are those that are enforced."""
        listed = {row[0]: int(row[1].split()[0]) for row in tables(PAGE)["Sizes"]}
        self.assertEqual(
            listed,
            {
                "a message of the agent": agentcontrol.MAX_MESSAGE,
                "a message of the gateway": agentcontrol.MAX_ACK,
                "services of an agent": agentcontrol.MAX_SERVICES,
                "host names of a service": agentcontrol.MAX_HOSTNAMES,
                "prefixes of a service": MAX_PREFIXES,
                "headers in one of its lists": MAX_HEADERS,
                "a preamble": preamble.MAX_PREAMBLE,
                "an answer": preamble.MAX_ANSWER,
                "a datagram": datagrams.MAX_DATAGRAM,
            },
        )
