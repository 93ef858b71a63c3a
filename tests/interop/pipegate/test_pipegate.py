"""
PipeGate's users: our server with a client of theirs, our client with a server of theirs, and both of ours.

Theirs are programs of the tests that do as C{docs/reference/protocols/pipegate.md} describes, on FastAPI, uvicorn, httpx and
websockets.
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from shutil import which

from gateway.domain.tokens import hashToken
from tests.certificates import makeAuthority
from tests.interop.pipegate.pipegateends import TOKEN, PipeGateTestCase, RunningServer
from tests.interop.running import start
from tests.interop.tunnels import MIB, randomFile
from tests.peers import require
from tests.processes import HERE, eventually

_BROWSE = Path(__file__).resolve().parents[1] / "http/browse.py"
_PLAYWRIGHT = Path(__file__).resolve().parents[3] / ".peers/browser/venv/bin/python"


class DialectTests(PipeGateTestCase):
    """PipeGate's own dialect, with the other end as PipeGate's."""

    def ends(self) -> dict[str, RunningServer]:
        """Servers where an application is published as C{node}, by who is whose."""
        local = self.application("adminapp")
        servers = {"our server": self.ourServer(), "our client": self.theirServer()}
        self.theirClient(servers["our server"], "node", local)
        self.ourClient(servers["our client"], "node", local)
        return servers

    def test_requests(self) -> None:
        """Every method arrives, with its path, query, headers and body."""
        for whose, server in self.ends().items():
            for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
                with self.subTest(whose, method=method):
                    body = ["--data", "ä=1"] if method != "GET" else []
                    found = json.loads(
                        self.curl(
                            server, "/node/seen?a=1&%C3%BC=x%20y", "--request", method, "-H", "Accept: a/b", *body
                        )
                    )
                    self.assertEqual((found["method"], found["size"]), (method, 4 if body else 0))
                    self.assertEqual(found["query"], [["a", "1"], ["ü", "x y"]])
                    self.assertEqual(found["accept"], ["a/b"])

    def test_login(self) -> None:
        """Forms, redirects and cookies work as without anything between."""
        for whose, server in self.ends().items():
            with self.subTest(whose):
                jar = str(self.folder / whose.replace(" ", "-"))
                cookies = ("--cookie-jar", jar, "--cookie", jar)
                self.curl(server, "/node/login", *cookies, "--data", "user=Ada&password=secret")
                self.assertIn("Grüße, Ada", self.curl(server, "/node/admin", *cookies))
                found = self.curl(server, "/node/cookies", "--dump-header", "-")
                self.assertEqual(found.lower().count("set-cookie: "), 3, found)

    def test_compressed(self) -> None:
        """A compressed response is one that a visitor can read, or says why not."""
        servers = self.ends()
        self.assertEqual(self.curl(servers["our server"], "/node/gzip", "--compressed"), "text " * 1000)
        self.assertEqual(self.status(servers["our client"], "/node/gzip"), 502)

    def test_binary(self) -> None:
        """What is not text is refused with a sentence that says what carries it, in either direction."""
        file = self.folder / "binary"
        file.write_bytes(bytes(range(256)))
        servers = self.ends()
        for whose, server in servers.items():
            with self.subTest(whose):
                self.assertIn("gateway pipegate-client", self.curl(server, "/node/binary"))
                self.assertEqual(self.status(server, "/node/binary"), 502)
        found = self.curl(servers["our server"], "/node/seen", "--data-binary", f"@{file}")
        self.assertIn("gateway pipegate-client", found)

    def test_large(self) -> None:
        """A body that PipeGate's client would break off its connection for is refused, and the client goes on."""
        server = self.ends()["our server"]
        file = self.folder / "text"
        file.write_bytes(b"x" * (2 * MIB))
        self.assertEqual(self.status(server, "/node/seen", "--data-binary", f"@{file}"), 413)
        file.write_bytes(b"x" * (900 * 1024))
        found = json.loads(self.curl(server, "/node/seen", "--data-binary", f"@{file}"))
        self.assertEqual(found["size"], 900 * 1024)

    def test_token(self) -> None:
        """A client with a wrong token is told 403, theirs by our server and ours by theirs."""
        local = f"http://{HERE}:1"
        theirs = self.startTheirClient(self.ourServer(), "node", local, "wrong")
        self.assertTrue(eventually(lambda: theirs.process.poll() is not None))
        self.assertIn("HTTP 403", theirs.log())
        ours = self.startOurClient(self.theirServer(), "node", local, token="wrong")
        self.assertIn("403", ours.awaitEvent("agent.not-connected")["problem"])

    def test_noApplication(self) -> None:
        """Where the application is not there, visitors get a 504."""
        server = self.theirServer()
        self.ourClient(server, "node", f"http://{HERE}:1")
        self.assertEqual(self.status(server, "/node/x"), 504)
        server = self.ourServer()
        self.theirClient(server, "node", f"http://{HERE}:1")
        self.assertEqual(self.status(server, "/node/x"), 504)

    def test_clientKilled(self) -> None:
        """A client that is killed in the middle of requests ends them at once, and its successor serves the next."""
        server, local = self.ourServer(), self.application("streamapp")
        client = self.theirClient(server, "node", local)
        url = server.url("/node/clock")  # which never ends
        visitor = start(self, which("curl") or "curl", "--silent", "--write-out", "%{http_code}", url)
        self.assertFalse(eventually(lambda: visitor.process.poll() is not None, 1.0))
        client.stop(signal.SIGKILL)
        self.assertTrue(eventually(lambda: visitor.process.poll() is not None, 3.0))
        self.assertIn("502", visitor.log())
        self.theirClient(server, "node", local)
        self.assertEqual(self.status(server, "/node/"), 200)


class OwnTests(PipeGateTestCase):
    """Our client and our server, which speak the agent protocol."""

    deadline = 240

    def test_login(self) -> None:
        """An application that is told below which path it is makes its own links and redirects there."""
        server = self.ourServer(secure=True)
        self.ourClient(server, "node", self.application("adminapp"))
        jar = str(self.folder / "jar")
        cookies = ("--cookie-jar", jar, "--cookie", jar, "--location")
        self.assertIn("<form", self.curl(server, "/node/admin", *cookies))
        found = self.curl(server, "/node/login", *cookies, "--data", "user=Ada&password=secret")
        self.assertIn("Grüße, Ada", found)
        self.assertIn("href=/node/logout", found)

    def test_anything(self) -> None:
        """Bytes, repeated parameters and cookies, and what is compressed arrive as they are."""
        server = self.ourServer()
        self.ourClient(server, "node", self.application("adminapp"))
        self.assertEqual(self.curl(server, "/node/cookies", "--dump-header", "-").lower().count("set-cookie: "), 3)
        seen = json.loads(self.curl(server, "/node/seen?a=1&a=2&b", "--interface", "127.0.0.9"))
        self.assertEqual(seen["query"], [["a", "1"], ["a", "2"], ["b", ""]])
        self.assertEqual((seen["root"], seen["address"]), ("/node", "127.0.0.9"))
        self.assertEqual(seen["url"], server.url("/node/seen?a=1&a=2&b"))
        self.assertEqual(self.curl(server, "/node/gzip", "--compressed"), "text " * 1000)
        file = self.folder / "binary"
        self.curl(server, "/node/binary", "--output", str(file))
        self.assertEqual(file.read_bytes(), bytes(range(256)))

    def browse(self, server: RunningServer) -> dict[str, object]:
        """Chromium opens a page below the path; return what came of its script."""
        chromium = which("chromium") or ""
        require(bool(chromium), "chromium is missing: apt install chromium")
        require(_PLAYWRIGHT.exists(), "Playwright is missing: run tests/browser/install")
        command = [str(_PLAYWRIGHT), str(_BROWSE), chromium, server.url("/node/")]
        done = subprocess.run(command, capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr.decode()[-4000:])
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def test_browserStreams(self) -> None:
        """In a browser a WebSocket and a clock work, without TLS and with it."""
        local = self.application("streamapp")
        for secure in (False, True):
            server = self.ourServer(secure=secure)
            self.ourClient(server, "node", local)
            expected = {"echo": "over there", "ticks": ["0", "1", "2"], "path": "/node/"}
            self.assertEqual(self.browse(server), expected)

    def test_browserLogin(self) -> None:
        """And so do a form, redirects and cookies."""
        server = self.ourServer(secure=True)
        self.ourClient(server, "node", self.application("adminapp"))
        self.assertEqual(
            self.browse(server),
            {"before": "/node/login", "after": "/node/admin", "heading": "Grüße, Ada", "cookies": "theme=dark"},
        )

    def test_renewed(self) -> None:
        """A certificate that was renewed is shown from then on, and visitors who are there stay."""
        server = self.ourServer(secure=True)
        before = self.pin(server)
        folder = Path(server.certificate).parent
        makeAuthority("another").issue("gw.test").write(str(folder))
        self.assertTrue(eventually(lambda: self.pin(server) != before))

    def test_log(self) -> None:
        """Each request is a line of the log that was asked for."""
        log = self.folder / "access.log"
        server = self.ourServer("--access-log", str(log), "--access-log-format", "common")
        self.ourClient(server, "node", self.application("adminapp"))
        self.theirClient(server, "json", self.application("adminapp"))
        for path in ("/node/seen?a=1", "/json/seen", "/nobody"):
            self.curl(server, path)
        self.assertTrue(eventually(lambda: log.exists() and len(log.read_text().splitlines()) == 3))
        lines = [line.partition('"')[2] for line in log.read_text().splitlines()]
        self.assertTrue(lines[0].startswith('GET /node/seen?a=1 HTTP/1.1" 200 '), lines)
        self.assertTrue(lines[1].startswith('GET /json/seen HTTP/1.1" 200 '), lines)
        self.assertTrue(lines[2].startswith('GET /nobody HTTP/1.1" 502 '), lines)

    def test_files(self) -> None:
        """1 GiB goes up and comes down whole, and neither end holds much of it."""
        server, local = self.ourServer(), self.application("streamapp")
        self.ourClient(server, "node", local)
        file = self.folder / "large"
        expected = randomFile(file, 1024 * MIB)
        before = rss(server)
        found = json.loads(self.curl(server, "/node/file", "--request", "POST", "--upload-file", str(file)))
        self.assertEqual(found, {"size": 1024 * MIB, "sum": expected})
        file.unlink()
        sums = subprocess.run(
            ["sh", "-c", f"curl -s {server.url('/node/file/1024')} | sha256sum; curl -s {local}/file/1024 | sha256sum"],
            capture_output=True,
            check=True,
            timeout=180,
        ).stdout.split()
        self.assertEqual(sums[0], sums[2])
        self.assertLess(rss(server) - before, 64 * MIB)

    def test_https(self) -> None:
        """An application with TLS is published in either dialect, if its certificate is from who is believed."""
        authority, certificate, key = self.credential("localhost")
        local = self.application("streamapp", certificate, key).replace(f"http://{HERE}", "https://localhost")
        for server, status in ((self.ourServer(), 502), (self.theirServer(), 504)):
            self.ourClient(server, "node", local, "--local-ca", authority)
            self.assertEqual(self.curl(server, "/node/text/100"), "x" * 100)
            self.ourClient(server, "other", local)
            self.assertEqual(self.status(server, "/other/text/100"), status)

    def test_restarted(self) -> None:
        """When the server is started again the client is back by itself."""
        server, local = self.ourServer(), self.application("adminapp")
        self.ourClient(server, "node", local)
        server.stop()
        server = self.ourServer(port=server.port)
        self.assertTrue(eventually(lambda: self.status(server, "/node/seen") == 200))

    def test_tokens(self) -> None:
        """A token of the file is good for its own ids, and until it is taken out of it."""
        tokens = self.folder / "tokens"
        tokens.write_text(f"{hashToken(TOKEN)} node\n")
        server, local = self.ourServer("--tokens", str(tokens)), self.application("adminapp")
        self.ourClient(server, "node", local)
        self.assertEqual(self.status(server, "/node/seen"), 200)
        tokens.write_text(f"{hashToken(TOKEN)} other\n")
        server.send(signal.SIGHUP)
        self.assertTrue(eventually(lambda: self.status(server, "/node/seen") == 502))
        self.ourClient(server, "other", local)
        self.assertEqual(self.status(server, "/other/seen"), 200)


def rss(running: RunningServer) -> int:
    """Bytes of memory that a process has."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
