"""
Tests for what an agent can be told of the HTTP of its services.
"""

from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.tokens import hashToken
from gateway.service.agent.config import AgentConfig, AgentPlan, agentPlan
from gateway.service.agent.httpconfig import HttpSection, httpOptions
from gateway.service.configuration import ConfigurationError, readConfiguration
from gateway.wire.agentcontrol import Service
from gateway.wire.httpoptions import HttpOptions

ALICE = "alice:" + hashToken("secret")
BOB = "bob:" + hashToken("hunter2")

FILE = """
[gateway]
to = "wss://gw.example/agent"
name = "box"

[[service]]
key = "web"
kind = "http"
hostnames = ["app.example.com"]
prefixes = ["/node", "/team/node"]
origin = "127.0.0.1:8080"

[service.http]
"""


class HttpOptionsTests(SynchronousTestCase):
    """
    L{httpOptions}.
    """

    def users(self, text: str) -> str:
        """The path of a file of users."""
        path = Path(self.mktemp()).absolute()
        path.write_text(text)
        return str(path)

    def plan(self, text: str) -> AgentPlan:
        """What a file makes of this below C{[service.http]}."""
        path = Path(self.mktemp())
        path.write_text(FILE + text)
        return agentPlan(readConfiguration(str(path), AgentConfig, environ={}), {})

    def service(self, text: str) -> Service:
        """What the gateway is told of the service."""
        (service,) = self.plan(text).register.services
        return service

    def test_nothing(self) -> None:
        """Where nothing is said the gateway is told nothing, so that old ones understand it."""
        self.assertIsNone(httpOptions(None, proxyPerVisitor=False))
        self.assertIsNone(httpOptions(HttpSection(), proxyPerVisitor=False))
        self.assertNotIn(b'"http":{', msgspec.json.encode(self.service("")))

    def test_whole(self) -> None:
        """Every key becomes an option."""
        service = self.service(
            f"""
            protocol = "h2c"
            host-header = "localhost:8080"
            basic-auth = ["{ALICE}"]
            access = ["deny 10.0.0.5", "allow 10.0.0.0/8"]
            set-request-headers = {{ X-Team = "blue" }}
            remove-request-headers = ["Cookie"]
            set-response-headers = {{ X-Frame-Options = "DENY" }}
            remove-response-headers = ["Server"]
            max-body = 1000
            requests-per-second = 5
            in-flight = 10
            compress = ["zstd", "gzip"]
            https-redirect = true
            hsts = 0
            """
        )
        self.assertEqual(service.prefixes, ("/node", "/team/node"))
        self.assertEqual(
            service.http,
            HttpOptions(
                protocol="h2c",
                hostHeader="localhost:8080",
                basicAuth=(ALICE,),
                access=("deny 10.0.0.5", "allow 10.0.0.0/8"),
                setRequestHeaders=(("x-team", "blue"),),
                removeRequestHeaders=("cookie",),
                setResponseHeaders=(("x-frame-options", "DENY"),),
                removeResponseHeaders=("server",),
                maxBody=1000,
                requestsPerSecond=5.0,
                inFlight=10,
                compress=("zstd", "gzip"),
                httpsRedirect=True,
                hsts=0,
            ),
        )

    def test_users(self) -> None:
        """A file may name users, besides those that are in the configuration."""
        path = self.users(f"# who may come\n\n  {BOB}  \n")
        options = httpOptions(HttpSection(basicAuth=(ALICE,), basicAuthFile=path), proxyPerVisitor=False)
        self.assertEqual(options, HttpOptions(basicAuth=(ALICE, BOB)))

    def test_proxyProtocol(self) -> None:
        """An origin that gets a PROXY header has a connection for each visitor."""
        for value, expected in (("none", None), ("v1", HttpOptions(proxyPerVisitor=True))):
            text = FILE.replace('origin = "', f'proxy-protocol = "{value}"\norigin = "')
            path = Path(self.mktemp())
            path.write_text(text)
            config = readConfiguration(str(path), AgentConfig, environ={})
            self.assertEqual(agentPlan(config, {}).register.services[0].http, expected)

    def problem(self, text: str) -> str:
        """What is wrong with it."""
        return str(self.assertRaises(ConfigurationError, self.plan, text))

    def test_problems(self) -> None:
        """What the gateway would refuse is told with its key, and no secret is."""
        for text, expected in (
            ('host-header = "a b"', "http: the field hostHeader is a host"),
            ('basic-auth = ["alice:hunter2"]', "http.basic-auth[0]: expected USER:sha256:HASH"),
            ('access = ["deny all"]', "or * for everybody"),
            ('access = ["allow 10.0.0.1/8"]', "http.access: The pattern '10.0.0.1/8' has host bits set"),
            ('access = ["permit *"]', "http.access[0]: expected allow or deny"),
            ('set-request-headers = { Host = "a" }', "http: the header host is not for services to change"),
            ('set-request-headers = { "X A" = "a" }', "http.set-request-headers.'x a': expected the name of a header"),
            ('set-response-headers = { X-A = "a\\r\\nb: c" }', "http.set-response-headers.'x-a': expected one line"),
            ('remove-request-headers = ["a b"]', "http.remove-request-headers[0]: expected the name of a header"),
            ('remove-response-headers = ["Content-Length"]', "http: the header content-length is not for services"),
            ('compress = ["br"]', "service[0].http.compress[0]: expected gzip or zstd"),
            ("max-body = -1", "service[0].http.max-body: "),
            ('basic-auth-file = "/nonexistent"', "http.basic-auth-file: /nonexistent: No such file or directory"),
            (f'basic-auth-file = "{self.users("# nobody")}"', "nobody is in it"),
            (f'basic-auth-file = "{self.users("hunter2")}"', "http.basic-auth[0]: "),
        ):
            with self.subTest(text):
                problem = self.problem(text)
                self.assertIn(expected, problem)
                self.assertNotIn("hunter2", problem.replace(text, ""))
                self.assertNotIn("\n", problem)

    def test_kinds(self) -> None:
        """Only a service of HTTP has such options, or prefixes."""
        text = FILE.replace('"http"', '"tls"') + 'protocol = "h2c"\n'
        path = Path(self.mktemp())
        path.write_text(text)
        config = readConfiguration(str(path), AgentConfig, environ={})
        error = self.assertRaises(ConfigurationError, agentPlan, config, {})
        self.assertIn("Only a service of kind http", str(error))

    def test_health(self) -> None:
        """An origin that speaks HTTP/2 alone cannot be asked for a page by our health check, which does not."""
        problem = self.problem('protocol = "h2c"\n[service.health]\nkind = "http"')
        self.assertIn("h2c is looked at by tcp", problem)
        self.plan('protocol = "h2c"\n[service.health]\nkind = "tcp"')
