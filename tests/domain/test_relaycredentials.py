"""Tests for L{gateway.domain.relaycredentials}."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.relaycredentials import MAX_FILE, CredentialsError, RelayCredentials, parseCredentials
from gateway.domain.targets import Target
from gateway.domain.tokens import hashToken

ORIGINAL = {"edge-agents": {"box": "agent secret", "My_Box": "b"}, "access-client-secrets": ["one", "two"]}
"""As http-network-relay has it."""


def parsed(**keys: object) -> RelayCredentials:
    """What a file says that has these keys beside the original's."""
    return parseCredentials(json.dumps({**ORIGINAL, **keys}).encode())


class ParseTests(SynchronousTestCase):
    """A file becomes credentials, or one line that says what is wrong."""

    def refused(self, problem: str, data: bytes) -> None:
        """Assert what is wrong with a file."""
        error = self.assertRaises(CredentialsError, parseCredentials, data)
        self.assertRegex(str(error), problem)
        self.assertNotIn("\n", str(error))

    def refusedKeys(self, problem: str, **keys: object) -> None:
        """Assert what is wrong with keys beside the original's."""
        self.refused(problem, json.dumps({**ORIGINAL, **{key.replace("_", "-"): keys[key] for key in keys}}).encode())

    def test_original(self) -> None:
        """A file of http-network-relay's is good, and whoever is in it may go everywhere."""
        credentials = parsed(more={"not": "ours"})
        self.assertEqual([agent.name for agent in credentials.agents], ["box", "My_Box"])
        self.assertEqual([agent.label for agent in credentials.agents], ["box", "my-box-3485ebdc"])
        self.assertEqual(credentials.agents[0].secret, hashToken("agent secret"))
        self.assertIsNone(credentials.agents[0].targets)
        client = credentials.client("two")
        assert client is not None
        self.assertEqual(client.name, "access-client-2")
        self.assertIsNone(client.refusalOf("anything", Target("169.254.169.254", 80)))

    def test_empty(self) -> None:
        """Nobody has to be in it."""
        self.assertEqual(parseCredentials(b"{}"), RelayCredentials())

    def test_unknownSecret(self) -> None:
        """A secret that is not in it is nobody's, however long it is."""
        credentials = parsed()
        for secret in ("", "three", "onE", "one ", "x" * 100_000, hashToken("one"), "\ud800"):
            self.assertIsNone(credentials.client(secret))

    def test_hashes(self) -> None:
        """A secret may be there as its hash, which is then no secret itself."""
        data = {"edge-agents": {"box": hashToken("s")}, "access-client-secrets": [hashToken("c")]}
        credentials = parseCredentials(json.dumps(data).encode())
        self.assertEqual(credentials.agents[0].secret, hashToken("s"))
        self.assertIsNotNone(credentials.client("c"))
        self.assertIsNone(credentials.client(hashToken("c")))
        for wrong in (hashToken("c").upper().replace("SHA", "sha"), hashToken("c")[:-1], "sha256:"):
            self.refusedKeys(r"access-client-secrets\[0\]: a hash is", access_client_secrets=[wrong])
            self.refusedKeys("edge-agents.'box': a hash is", edge_agents={"box": wrong})

    def test_secretsAreNotShown(self) -> None:
        """No secret, and no hash of one, is in what is shown of credentials, or of an error."""
        for part in ("agent secret", "sha256:"):
            self.assertNotIn(part, repr(parsed()))
        self.refused("edge-agents", b'{"edge-agents": {"box": ["agent secret"]}}')
        error = self.assertRaises(CredentialsError, parsed, **{"access-clients": {"a": {"secret": "one"}}})
        self.assertEqual(str(error), "the access clients access-client-1 and a have the same secret")

    def test_notJSON(self) -> None:
        """What is no JSON object is said to be none."""
        for data in (b"", b"{", b"\xff{}"):
            self.refused("not JSON", data)
        self.refused("Expected `object`", b"[]")
        self.refused("longer than", b" " * (MAX_FILE + 1))

    def test_keys(self) -> None:
        """What is wrong is named by its key."""
        self.refusedKeys("edge-agents.'box': the secret is empty", edge_agents={"box": ""})
        self.refusedKeys(r"access-client-secrets\[1\]: the secret is longer", access_client_secrets=["a", "b" * 513])
        self.refusedKeys("edge-agent-targets.'bix': there is no such agent", edge_agent_targets={"bix": []})
        self.refusedKeys(r"edge-agent-targets.'box'\[1\]: .*begins", edge_agent_targets={"box": ["deny *", "grant *"]})
        self.refusedKeys("access-clients.'a b': a name has", access_clients={"a b": {"secret": "x"}})
        self.refusedKeys("secret", access_clients={"a": {}})
        self.refusedKeys("hosts", access_clients={"a": {"secret": "x", "hosts": []}})
        self.refusedKeys(r"access-clients.'a'.targets\[0\]", access_clients={"a": {"secret": "x", "targets": ["x"]}})
        self.refusedKeys("have the same secret", access_client_secrets=["a", "a"])

    def test_misspelt(self) -> None:
        """A key that is nearly one of ours is refused, as its rules would count for nothing; others are let alone."""
        for key, meant in (
            ("edge-agents-targets", "edge-agent-targets"),
            ("edge_agent_targets", "edge-agent-targets"),
            ("access-client", "access-clients"),
        ):
            error = self.assertRaises(CredentialsError, parseCredentials, b'{"%s": {}}' % key.encode())
            self.assertEqual(str(error), f"'{key}': there is no such key; did you mean {meant}?")
        for key in ("edge-agents-remark", "edge-agent-names", "comment", ""):
            self.assertEqual(parseCredentials(b'{"%s": {}}' % key.encode()), RelayCredentials())

    def test_labels(self) -> None:
        """No two agents have one label."""
        self.refusedKeys("has the label my-box-3485ebdc", edge_agents={"My_Box": "a", "my-box-3485ebdc": "b"})


class RulesTests(SynchronousTestCase):
    """Rules say what may be reached."""

    def allowed(self, targets: list[str] | None, *addresses: str, agents: list[str] | None = None) -> list[bool]:
        """Which targets a client with these rules may reach through the box."""
        client = {"secret": "s", **({} if targets is None else {"targets": targets})}
        if agents is not None:
            client["agents"] = agents
        found = parsed(**{"access-clients": {"alice": client}}).client("s")
        assert found is not None
        targetsOf = [address.rpartition(":") for address in addresses]
        return [found.refusalOf("box", Target(host, int(port))) is None for host, _, port in targetsOf]

    def test_targets(self) -> None:
        """Targets are allowed by address, name and port, and nothing else is then."""
        rules = ["allow 10.0.0.0/8:22", "allow *.lan:5432"]
        asked = ("10.1.2.3:22", "10.1.2.3:23", "192.0.2.1:22", "db.lan:5432", "lan:5432")
        self.assertEqual(self.allowed(rules, *asked), [True, False, False, True, False])
        self.assertEqual(self.allowed([], "10.0.0.1:22", "a.lan:1"), [False, False])

    def test_names(self) -> None:
        """A name is not allowed by a network, and is denied by the denial of one, unless a rule before it allows it."""
        self.assertEqual(self.allowed(["allow 0.0.0.0/0"], "db.lan:22"), [False])
        self.assertEqual(self.allowed(["deny 127.0.0.0/8", "allow *"], "db.lan:22", "10.0.0.1:22"), [False, True])
        self.assertEqual(
            self.allowed(["allow db.lan", "deny 127.0.0.0/8", "allow *"], "db.lan:22", "a:22"), [True, False]
        )
        self.assertEqual(
            self.allowed(["deny 127.0.0.0/8:80", "allow *"], "localhost:22", "localhost:80"), [True, False]
        )

    def test_agents(self) -> None:
        """A client may be held to some agents, by the names that these have in the file."""
        self.assertEqual(self.allowed(None, "10.0.0.1:22", agents=["box"]), [True])
        self.assertEqual(self.allowed(None, "10.0.0.1:22", agents=["My_Box"]), [False])
        self.assertEqual(self.allowed(None, "10.0.0.1:22", agents=[]), [False])
        found = parsed(**{"access-clients": {"alice": {"secret": "s", "agents": ["My_Box"]}}}).client("s")
        assert found is not None
        self.assertIsNone(found.refusalOf("my-box-3485ebdc", Target("a", 1)))

    def test_agentsTargets(self) -> None:
        """An agent may have rules of its own."""
        box, other = parsed(**{"edge-agent-targets": {"box": ["allow 10.0.0.1:22"]}}).agents
        self.assertEqual([str(rule) for rule in box.targets or ()], ["allow 10.0.0.1:22"])
        self.assertIsNone(other.targets)
