"""
Tests for what gateway.toml may say, and how a mistake in it is told.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.gotunnel import GoTunnelTokens
from gateway.domain.httppolicy import HttpDefaults
from gateway.domain.tokens import hashToken
from gateway.net.httpsettings import HttpSettings
from gateway.service.configuration import ConfigurationError
from gateway.service.server.settings import GatewaySettings, parseListen, readGatewaySettings
from gateway.wire.http2budget import Http2Limits

HASH = "sha256:" + "0" * 64
LISTEN = """
[[certificate]]
hostnames = ["gw.example"]
certificate = "c.pem"
key = "k.pem"
[tls]
listen = ["127.0.0.1:443"]
"""


class SettingsTestCase(SynchronousTestCase):
    """
    A file.
    """

    def read(self, text: str, environ: dict[str, str] | None = None) -> GatewaySettings:
        """What the file says."""
        path = Path(self.mktemp())
        path.write_text(text)
        return readGatewaySettings(str(path), environ or {})

    def file(self, content: bytes) -> str:
        """The path of another file."""
        path = Path(self.mktemp()).absolute()
        path.write_bytes(content)
        return str(path)

    def assertProblem(self, text: str, *parts: str) -> None:
        """The file is refused in one line that has all of these."""
        error = self.assertRaises(ConfigurationError, self.read, text)
        self.assertNotIn("\n", str(error))
        for part in parts:
            self.assertIn(part, str(error))


class ReadTests(SettingsTestCase):
    """
    Files that can be used.
    """

    def test_least(self) -> None:
        """A place where agents can attach is all that is needed."""
        settings = self.read(LISTEN)
        (listen,) = settings.tlsListen
        self.assertEqual((listen.host, listen.port), ("127.0.0.1", 443))
        self.assertEqual([each.text for each in settings.managementListen], ["127.0.0.1:9080"])
        self.assertEqual(settings.agents, ())

    def test_environment(self) -> None:
        """All of it may come from the environment, agents as JSON."""
        settings = readGatewaySettings(
            None,
            {
                "GATEWAY_TLS_LISTEN": "0.0.0.0:443, [::]:443",
                "GATEWAY_AGENTS_PLAIN_LISTEN": "localhost:9000",
                "GATEWAY_GATEWAY_PUBLIC_HOST": "GW.example.",
                "GATEWAY_AGENT": f'[{{"name": "box", "secret-hash": "{HASH}"}}]',
                "GATEWAY_SOMETHING_ELSE": "x",
            },
        )
        self.assertEqual([each.host for each in settings.tlsListen], ["0.0.0.0", "::"])
        self.assertEqual(settings.publicHost, "gw.example")
        self.assertEqual(settings.agents[0].name, "box")

    def test_agent(self) -> None:
        """An agent's entry becomes what proves it, and what it may have."""
        secret = self.file(b"  hush  \n")
        settings = self.read(
            LISTEN
            + f"""
            [agents]
            client-ca = "ca.pem"
            [[agent]]
            name = "box"
            secret-hash = "{HASH}"
            secret-hashes = ["{HASH[:-1]}1"]
            secret-file = "{secret}"
            certificates = ["{":".join(["AB"] * 32)}"]
            hostnames = ["App.Example.com", "*.alice.example", "*"]
            prefixes = ["/node", "/team/*", "*"]
            ports = ["2222", "20000-29999"]
            limits = {{ sessions = 2, streams = 7 }}
            expires = 2027-01-01T00:00:00Z
            """
        )
        (entry,) = settings.agents
        self.assertEqual(entry.secrets, (HASH, HASH[:-1] + "1", hashToken("hush")))
        self.assertEqual(entry.certificates, ("ab" * 32,))
        self.assertEqual(entry.grant.hostnames, ("app.example.com", "*.alice.example", "*"))
        self.assertEqual(entry.grant.prefixes, ("/node", "/team/*", "*"))
        self.assertEqual(entry.grant.ports, ((2222, 2222), (20000, 29999)))
        self.assertEqual((entry.grant.sessions, entry.grant.streams, entry.grant.services), (2, 7, None))
        self.assertEqual(entry.expires, 1798761600.0)

    def test_jwt(self) -> None:
        """Tokens are taken from who holds a secret, or a private key."""
        secret, public = self.file(b"x" * 32 + b"\n"), self.file(b"-----BEGIN PUBLIC KEY-----\n...")
        for path, more, algorithms in ((secret, "", ("HS256",)), (public, 'algorithms = ["ES256"]', ("ES256",))):
            text = f'[[agent]]\nname = "*"\n[agent.jwt]\nkey-file = "{path}"\nissuer = "us"\n{more}\n'
            issuer = self.read(LISTEN + text).agents[0].issuer
            assert issuer is not None
            self.assertEqual((issuer.algorithms, issuer.issuer, issuer.audience), (algorithms, "us", None))
            self.assertEqual(issuer.key, Path(path).read_bytes().strip())

    def test_doors(self) -> None:
        """Each door has rules and proxies of its own."""
        settings = self.read(
            LISTEN
            + """
            access = ["deny 192.0.2.0/24"]
            [http]
            proxy-protocol-from = ["10.0.0.0/8"]
            [ports]
            access = ["allow 10.0.0.0/8", "deny *"]
            privileged = true
            automatic = "30000-30009"
            """
        )
        self.assertFalse(settings.tls.access.allows("192.0.2.1"))
        self.assertTrue(settings.http.access.allows("192.0.2.1"))
        self.assertEqual(settings.http.proxies, (ip_network("10.0.0.0/8"),))
        self.assertFalse(settings.ports.access.allows("192.0.2.1"))
        self.assertEqual((settings.portRules.privileged, settings.portRules.automatic), (True, (30000, 30009)))

    def test_tlsInFront(self) -> None:
        """Where TLS ends in front of the gateway, visitors are sent there."""
        settings = self.read(
            """
            [agents]
            plain-listen = ["127.0.0.1:1"]
            [http]
            trusted-proxies = ["127.0.0.1"]
            https-redirect = true
            """
        )
        self.assertEqual(settings.httpDefaults.tlsPort, 443)

    def test_http(self) -> None:
        """What holds for requests is in the shape that the doors take; without a word it is what they do anyway."""
        settings = self.read(LISTEN)
        self.assertEqual(settings.httpSettings, HttpSettings())
        self.assertEqual(settings.httpDefaults, HttpDefaults())
        settings = self.read(
            LISTEN.replace("443", "8443")
            + """
            [http]
            trusted-proxies = ["10.0.0.0/8"]
            https-redirect = true
            hsts = 3600
            access-log = "-"
            access-log-format = "json"
            [limits]
            head-bytes = 8192
            connect-timeout = 3
            keep-alive-timeout = 5
            origin-timeout = 7
            h2-streams = 9
            body-bytes = 100
            route-requests = 10
            """
        )
        self.assertEqual(
            settings.httpSettings,
            HttpSettings(
                headLimit=8192, dialTimeout=3.0, idleTimeout=5.0, originHeadTimeout=7.0, http2=Http2Limits(streams=9)
            ),
        )
        self.assertEqual(settings.httpDefaults, HttpDefaults(True, 3600, 8443, 100, 10))
        self.assertEqual(settings.trustedProxies, (ip_network("10.0.0.0/8"),))
        self.assertEqual(settings.config.http.accessLogFormat, "json")

    def test_certified(self) -> None:
        """A certificate is for its names, and a wildcard for names one label below, as it is for itself."""
        text = LISTEN.replace('["gw.example"]', '["gw.example", "*.b.example"]')
        settings = self.read(text)
        for name in ("gw.example", "a.b.example", "*.b.example"):
            self.assertTrue(settings.isCertified(name), name)
        for name in ("b.example", "a.gw.example", "a.a.b.example", "*.gw.example"):
            self.assertFalse(settings.isCertified(name), name)

    def test_goTunnel(self) -> None:
        """Agents of go-tunnel's are taken where there is their secret, with the names that they may have."""
        self.assertIsNone(self.read(LISTEN).goTunnel)
        secret = self.file(b"supersecretjwtkey\n")
        section = f'[agents]\nlisten = ["127.0.0.1:1"]\n[gotunnel]\njwt-secret-file = "{secret}"\n'
        theirs = self.read(LISTEN + section + 'hostnames = ["*.Example.com"]').goTunnel
        assert theirs is not None
        GoTunnelTokens("supersecretjwtkey").verify(theirs.tokens.make("a", 60, now=0), 0)
        self.assertEqual((theirs.grant.hostnames, theirs.tokens.isGuessable), (("*.example.com",), True))
        theirs = self.read(LISTEN + section).goTunnel
        self.assertTrue(theirs is not None and theirs.grant.allowsName("anything.example.org"))

    def test_secretsAreNotShown(self) -> None:
        """The settings can be printed without telling how agents prove themselves."""
        settings = self.read(LISTEN + f'[[agent]]\nname = "box"\nsecret-hash = "{HASH}"\n')
        self.assertNotIn(HASH, repr(settings))


class ProblemTests(SettingsTestCase):
    """
    Files that cannot, each with the key at fault.
    """

    def test_keys(self) -> None:
        """What is wrong is told in one line that names the key."""
        agent = f'{LISTEN}[[agent]]\nname = "box"\nsecret-hash = "{HASH}"\n'
        for text, parts in (
            ("", ["tls.listen", "no agent can attach"]),
            (LISTEN + "listne = []", ["tls.listne", "did you mean listen?"]),
            ('[tls]\nlisten = ["127.0.0.1"]', ["tls.listen[0]", "ADDRESS:PORT"]),
            ('[tls]\nlisten = ["127.0.0.1:70000"]', ["tls.listen[0]", "70000"]),
            ('[tls]\nlisten = ["127.0.0.1:1", "999.0.0.1:1"]', ["tls.listen[1]", "not an address"]),
            (LISTEN + 'access = ["allow example.com"]', ["tls.access[0]", "about addresses alone"]),
            (LISTEN + 'proxy-protocol-from = ["10.0.0.1/8"]', ["tls.proxy-protocol-from[0]", "host bits"]),
            (LISTEN + '[gateway]\npublic-host = "a b"', ["gateway.public-host", "no host may hold"]),
            (LISTEN + '[gateway]\npublic-host = "https://a/"', ["gateway.public-host", "leave out scheme"]),
            (LISTEN + '[gateway]\npublic-host = "a:443"', ["gateway.public-host", "leave out scheme, port"]),
            (LISTEN + "[gateway]\ndrain-seconds = -1", ["gateway.drain-seconds"]),
            (LISTEN + '[agents]\nplain-listen = ["0.0.0.0:1"]', ["agents.plain-listen[0]", "loopback"]),
            (LISTEN + '[agents]\nplain-listen = ["tcp:1"]', ["agents.plain-listen[0]", "loopback"]),
            (LISTEN + '[agents]\nwebsocket-path = "agent"', ["agents.websocket-path"]),
            ('[agents]\nlisten = ["127.0.0.1:1"]', ["certificate", "no agent can attach"]),
            (LISTEN + '[management]\nlisten = ["0.0.0.0:1"]', ["management.listen[0]", "password-hash"]),
            (LISTEN + '[management]\npassword-hash = "hush"', ["management.password-hash", "gateway secret"]),
            (LISTEN + '[ports]\nautomatic = "2-1"', ["ports.automatic", "ends before"]),
            (LISTEN + '[ports]\ninterfaces = ["eth0"]', ["ports.interfaces[0]", "not an address"]),
            (LISTEN + '[[agent]]\nname = "box"', ["agent[0]", "nothing proves"]),
            (LISTEN + '[[agent]]\nname = "Box"\nsecret-hash = "x"', ["agent[0].name"]),
            (LISTEN + '[[agent]]\nname = "box"\nsecret-hash = "x"', ["agent[0].secret-hash"]),
            (agent + f'[[agent]]\nname = "box"\nsecret-hash = "{HASH}"\n', ["agent[1].name", "two agents"]),
            (agent + 'hostnames = ["*.*.example"]', ["agent[0].hostnames[0]"]),
            (agent + 'prefixes = ["/a", "node"]', ["agent[0].prefixes[1]", "'node'", "/node/*"]),
            (agent + 'prefixes = ["/*"]', ["agent[0].prefixes[0]"]),
            (agent + 'prefixes = ["/a/*/b"]', ["agent[0].prefixes[0]"]),
            (LISTEN + '[http]\ntrusted-proxies = ["a.example"]', ["http.trusted-proxies[0]"]),
            (LISTEN + "[http]\nhsts = -1", ["http.hsts"]),
            (LISTEN + '[http]\naccess-log-format = "clf"', ["http.access-log-format", "combined or common or json"]),
            (
                '[agents]\nplain-listen = ["127.0.0.1:1"]\n[http]\nhttps-redirect = true',
                ["http.https-redirect", "tls.listen"],
            ),
            (LISTEN + "[limits]\nhead-bytes = 10", ["limits.head-bytes"]),
            (agent + 'ports = ["x"]', ["agent[0].ports[0]"]),
            (agent + 'targets = ["ssh.box.agent"]', ["agent[0].targets[0]", "allow"]),
            (agent + 'targets = ["allow 10.0.0.0/8"]', ["agent[0].targets[0]", "names"]),
            (agent + 'certificates = ["ab"]', ["agent[0].certificates[0]", "fingerprint"]),
            (agent + f'certificates = ["{"ab" * 32}"]', ["agent[0].certificates", "agents.client-ca"]),
            (agent + 'secret-file = "/nonexistent"', ["agent[0].secret-file", "/nonexistent", "No such file"]),
            (agent + "expires = 2027-01-01T00:00:00", ["agent[0].expires"]),
            (agent + "limits = { streams = 0 }", ["agent[0].limits.streams"]),
            (LISTEN + '[[certificate]]\nhostnames = []\ncertificate = "c"\nkey = "k"', ["certificate[1].hostnames"]),
            (LISTEN + "[limits]\nping-interval = 0", ["limits.ping-interval"]),
        ):
            with self.subTest(text):
                self.assertProblem(text, *parts)

    def test_goTunnel(self) -> None:
        """So is what is wrong with the agents of go-tunnel's."""
        key = "gotunnel.jwt-secret-file"
        for secret, more, parts in (
            (self.file(b"secret"), "", [key, "agents.listen"]),
            (self.file(b" \n"), "", [key, "empty"]),
            (self.file(b"\xff"), "", [key, "decode"]),
            ("/nonexistent", "", [key, "No such file"]),
            (self.file(b"secret"), 'hostnames = ["a b"]', ["gotunnel.hostnames[0]"]),
        ):
            self.assertProblem(LISTEN + f'[gotunnel]\njwt-secret-file = "{secret}"\n{more}', *parts)

    def test_jwt(self) -> None:
        """So is what is wrong with keys of tokens: above all a public key that could be used as a secret."""
        pem, short = self.file(b"-----BEGIN PUBLIC KEY-----\n" + b"x" * 40), self.file(b"hush")
        for path, more, part in (
            (short, "", "at least 32 bytes"),
            (pem, "", "no secret"),
            (pem, 'algorithms = ["HS256", "ES256"]', "algorithms"),
            (pem, 'algorithms = ["none"]', "algorithms"),
            (short, 'algorithms = ["ES256"]', "not a public key"),
            (self.file(b" \n"), "", "empty"),
        ):
            text = f'{LISTEN}[[agent]]\nname = "*"\n[agent.jwt]\nkey-file = "{path}"\n{more}\n'
            with self.subTest(part):
                self.assertProblem(text, "agent[0].jwt", part)

    def test_passwordOpensManagement(self) -> None:
        """With a password the management listener may be anywhere."""
        self.read(LISTEN + f'[management]\nlisten = ["0.0.0.0:1"]\npassword-hash = "{HASH}"')


class ListenTests(SynchronousTestCase):
    """
    L{parseListen}.
    """

    def test_forms(self) -> None:
        """Addresses, all addresses, and endpoint strings."""
        for text, host, port, isLoopback in (
            ("127.0.0.1:80", "127.0.0.1", 80, True),
            ("[::1]:80", "::1", 80, True),
            ("localhost:80", "localhost", 80, True),
            (":80", "", 80, False),
            ("*:80", "", 80, False),
            ("0.0.0.0:80", "0.0.0.0", 80, False),
            ("unix:/run/x.sock", None, 0, True),
            ("tcp:80", None, 0, False),
            ("tcp:80:interface=127.0.0.1", None, 0, True),
            ("systemd:domain=INET:index=0", None, 0, False),
        ):
            listen = parseListen(text)
            self.assertEqual((listen.host, listen.port, listen.isLoopback), (host, port, isLoopback), text)
