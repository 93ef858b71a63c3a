"""
Tests that do what the page about websites says: with its files and its commands, but at ports that are free.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

from tests.documented import commands, namedBlock
from tests.interop.http.website import WebTestCase, peer
from tests.interop.running import GATEWAY, Running, program, start
from tests.processes import HERE, SECONDS, eventually, freePort

PAGE = "docs/howto/publish-a-website.md"
TEXT = "<h1>Welcome</h1>\n" * 100
_ENDS = Path(__file__).with_name("grpcends.py")


class WebsiteTests(WebTestCase):
    """
    Each command of the page, in its order, and what it promises beside.

    @ivar environ: what moves the gateway to ports that are free, and lets curl find them.
    """

    def setUp(self) -> None:
        super().setUp()
        self.tls, self.http, self.agents, self.front, self.plainFront = (freePort() for _ in range(5))
        self.origins = {"127.0.0.1:8080": 0, "127.0.0.1:50051": freePort(), "127.0.0.1:3000": freePort()}
        self.authority, certificate, key = self.credential("*.example.com", HERE)
        self.secret = self.folder / "secret"
        self.secret.write_text("a secret of this test's, which is long enough")
        self.paths = {
            "/etc/txgateway/tls/fullchain.pem": certificate,
            "/etc/txgateway/tls/privkey.pem": key,
            "/etc/txgateway/secret": str(self.secret),
            "/var/log/txgateway": str(self.folder),
        }
        self.environ = {
            "GATEWAY_TLS_LISTEN": f"{HERE}:{self.tls}",
            "GATEWAY_HTTP_LISTEN": f"{HERE}:{self.http}",
            "GATEWAY_AGENTS_LISTEN": f"{HERE}:{self.agents}",
            "GATEWAY_MANAGEMENT_LISTEN": f"{HERE}:{freePort()}",
            "GATEWAY_GATEWAY_DRAIN_SECONDS": "1",
        }
        self.connect(self.http, self.tls)
        self.asked = iter([list(command.words[1:]) for command in commands("curl") if command.page == PAGE])

    def connect(self, http: int, tls: int) -> None:
        """Let curl find at these ports of this machine whatever it is told to ask."""
        (self.folder / ".curlrc").write_text(
            f'connect-to = ":80:{HERE}:{http}"\nconnect-to = ":443:{HERE}:{tls}"\ncacert = "{self.authority}"\n'
            'noproxy = "*"\n'
        )

    def file(self, name: str, block: str) -> Path:
        """A file of the page, with this test's paths, ports and secret."""
        hashed = subprocess.run(
            [GATEWAY, "hash-secret"], input=self.secret.read_bytes(), capture_output=True, check=True
        ).stdout.decode()
        text = namedBlock(block).text
        for theirs, ours in self.paths.items():
            text = text.replace(theirs, ours)
        for address, port in self.origins.items():
            text = text.replace(f'"{address}"', f'"{HERE}:{port}"')
        text = re.sub(r"(?m)^(secret-hash = ).*$", rf'\1"{hashed.strip()}"', text)
        path = self.folder / name
        path.write_text(text)
        return path

    def serve(self, block: str) -> Running:
        """Start the gateway."""
        path = str(self.file("gateway.toml", block))
        gateway = start(self, GATEWAY, "serve", "--config", path, env=self.environ, ended=self._inspect)
        gateway.awaitEvent("gateway.started")
        return gateway

    def attach(self) -> Running:
        """Start the agent."""
        path = str(self.file("agent.toml", "agent-toml-website"))
        to = ("--to", f"tls://{HERE}:{self.agents}", "--ca", self.authority, "--drain", "1")
        agent = start(self, GATEWAY, "agent", "--config", path, *to, ended=self._inspect)
        for service in ("site", "docs", "admin", "rpc", "chat"):
            agent.awaitEvent("agent.serving", service=service)
        return agent

    def ask(self, *words: str) -> str:
        """What curl prints, of the page and of what is wrong."""
        done = subprocess.run(
            [program("curl"), *words],
            env={**os.environ, "CURL_HOME": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
        )
        return done.stdout.decode(errors="replace")

    def next(self) -> str:
        """What the next command of the page prints."""
        return self.ask(*next(self.asked))

    def test_website(self) -> None:
        """A site, a prefix, a password, compression, a redirect, and a log that can be renamed."""
        site = self.nginx()
        (site.files / "index.html").write_text(TEXT)
        self.origins["127.0.0.1:8080"] = site.port
        gateway = self.serve("gateway-toml-website")
        agent = self.attach()
        redirect = self.next()
        self.assertIn(" 308 ", redirect)
        self.assertIn("Location: https://www.example.com", redirect)
        page = self.next()
        self.assertTrue(page.endswith(TEXT), page)
        for header in ("content-security-policy", "referrer-policy", "x-frame-options", "strict-transport-security"):
            self.assertIn(f"\n{header}: ", page)
        self.assertIn("\ncontent-encoding: gzip", self.next())
        self.assertEqual(self.next(), TEXT)
        administration = next(self.asked)
        self.assertEqual(self.ask(*administration), TEXT)
        self.assertIn("<p>401 unauthorized", self.ask("-s", "https://admin.example.com/"))
        large = self.folder / "large"
        large.write_bytes(bytes(1048577))
        self.assertIn("<p>413 body-too-large", self.ask("-sT", str(large), "https://www.example.com/large"))
        log, renamed = self.folder / "access.log", self.folder / "access.log.1"
        self.assertTrue(eventually(lambda: log.read_text().count("\n") >= 7))
        log.rename(renamed)
        gateway.send(signal.SIGHUP)
        gateway.awaitEvent("gateway.reloaded")
        self.ask("-s", "https://www.example.com/after")
        self.assertTrue(eventually(lambda: "/after" in log.read_text()))
        self.assertRegex(renamed.read_text(), r'(?m) - alice \[.*\] "GET / HTTP/2.0" 200 ')
        site.nginx.stop()
        problem = json.loads(self.next())
        self.assertIn(problem["code"], ("origin-refused", "unavailable"))  # before the health check, or after
        agent.process.kill()
        gateway.awaitEvent("agent.detached")
        for scheme in ("http", "https"):
            self.assertIn("<h1>The service is not connected", self.ask("-s", f"{scheme}://www.example.com/"))
            self.assertIn("<h1>Nothing is served here", self.ask("-s", f"{scheme}://other.example.com/"))
            self.assertIn("There is no such page here.", self.ask("-s", f"{scheme}://gw.example.com/docs/"))
        self.assertEqual(list(self.asked), [])

    def test_streams(self) -> None:
        """gRPC and events need no more than the file says."""
        self.origins["127.0.0.1:8080"] = self.node()
        self.origins["127.0.0.1:50051"] = self.grpc()
        self.origins["127.0.0.1:3000"] = self.node()
        self.serve("gateway-toml-website")
        self.attach()
        command = [peer("python"), str(_ENDS), "visit", str(self.tls), "rpc.example.com", self.authority]
        done = subprocess.run(command, capture_output=True, timeout=self.deadline)
        self.assertEqual(json.loads(done.stdout)["converses"], ["ONE", "TWO", "THREE"])
        self.assertIn("data: hello", self.ask("-sNm", "1", "https://chat.example.com/events"))

    def test_front(self) -> None:
        """nginx in front says who comes and how, and the origin hears it; without TLS there is one redirect."""
        self.origins["127.0.0.1:8080"] = self.node()
        del self.environ["GATEWAY_TLS_LISTEN"]  # that is nginx's
        self.serve("gateway-toml-website-front")
        self.attach()
        text = namedBlock("website-front").text
        for theirs, ours in self.paths.items():
            text = text.replace(theirs, ours)
        text = text.replace("127.0.0.1:8081", f"{HERE}:{self.http}")
        text = text.replace("listen 80;", f"listen {HERE}:{self.plainFront};")
        text = text.replace("listen 443 ", f"listen {HERE}:{self.front} ")
        self.startFront(text)
        self.connect(self.plainFront, self.front)
        redirect = self.ask("-si", "http://www.example.com/seen")
        self.assertIn(" 308 ", redirect)
        self.assertIn("Location: https://www.example.com/seen", redirect)
        names = ("X-Forwarded-Host", "X-Forwarded-Prefix", "X-Real-IP", "Forwarded")
        claims = ["X-Forwarded-For: 203.0.113.7", *(f"{name}: for=evil" for name in names)]
        words = [word for claim in claims for word in ("-H", claim)]
        seen = json.loads(self.ask("-s", *words, "https://www.example.com/seen"))
        fields = dict(zip(seen["fields"][::2], seen["fields"][1::2], strict=True))
        self.assertEqual(fields["Host"], "www.example.com")
        self.assertEqual(fields["X-Forwarded-Proto"], "https")
        self.assertEqual(fields["X-Forwarded-Port"], str(self.front))
        self.assertEqual(fields["X-Forwarded-For"], f"203.0.113.7, {HERE}, {HERE}")
        self.assertEqual(fields["X-Forwarded-Host"], "www.example.com")
        self.assertEqual({"X-Real-Ip", "X-Real-IP", "X-Forwarded-Prefix"} & {*fields}, set())
        self.assertTrue(fields["Forwarded"].startswith("for=203.0.113.7, "))
        self.assertIn("unauthorized", self.ask("-s", "https://admin.example.com/"))

    def startFront(self, text: str) -> None:
        """Start nginx with these lines."""
        folder = self.folder / "front"
        folder.mkdir()
        configuration = folder / "nginx.conf"
        places = "".join(
            f"{each}_temp_path {folder}/{each};\n" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration.write_text(
            f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{places}{text}\n}}\n"
        )
        self.origin(self.front, program("nginx"), "-c", str(configuration), "-p", str(folder), "-e", "stderr")
