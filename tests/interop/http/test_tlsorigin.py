"""
nginx, Python and openssl as origins that speak TLS: who is believed, who is not, and what comes through.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

from tests.documented import namedBlock
from tests.interop.http.website import WebTestCase
from tests.interop.rawwebsocket import TEXT, RawWebSocket
from tests.interop.running import program
from tests.interop.tunnels import HOST, MIB, checksum, randomFile
from tests.interop.webserver import startNginx
from tests.processes import HERE, SECONDS, freePort

DEV = "dev.test"
"""What the origin's certificate is for."""


class TLSOriginTests(WebTestCase):
    """An agent dials origins with TLS, and looks at their certificates."""

    def serve(self, **services: dict[str, object]) -> None:
        """Start a gateway, and an agent with services of kind C{http}, each at the name of its key."""
        self.running = self.gateway()
        text = ""
        for key, keys in services.items():
            text += self.service(**{"key": key, "kind": "http", "hostnames": [f"{key}.{HOST}"], **keys})
        self.served = self.agent(self.running, config=text)
        for key in services:
            self.served.awaitEvent("agent.serving", service=key)

    def ask(self, key: str, path: str = "/", *arguments: str) -> str:
        """Run curl for a service."""
        url = self.running.url("https", f"{key}.{HOST}", path)
        usual = ["--disable", "--silent", "--show-error", "--noproxy", "*", "--cacert", self.running.authority]
        return self.call(
            "curl", *usual, "--resolve", f"{key}.{HOST}:{self.running.tls}:{HERE}", "--http1.1", *arguments, url
        )

    def asNginx(self, *more: str) -> tuple[int, str, Path]:
        """Start nginx with a certificate for L{DEV}; return its port, the file of its authority, and its files."""
        port = freePort()
        authority, certificate, key = self.credential(DEV)
        lines = [f"listen {HERE}:{port} ssl;", f"ssl_certificate {certificate};", f"ssl_certificate_key {key};", *more]
        return port, authority, startNginx(self, self.folder / "web", port, "\n".join(lines)).files

    def asDeveloper(self) -> tuple[int, Path, str]:
        """Start a server whose certificate nobody has signed but itself; return its port, its files and its pin."""
        port, files = freePort(), self.folder / "files"
        files.mkdir()
        certificate, key = str(self.folder / "certificate.pem"), str(self.folder / "key.pem")
        arguments = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-days", "2"]
        self.call("openssl", "req", "-x509", *arguments, "-out", certificate, "-keyout", key)
        server = str(Path(__file__).with_name("tlsfiles.py"))
        self.origin(port, sys.executable, server, str(port), certificate, key, str(files))
        pin = subprocess.run(
            ["sh", "-c", namedBlock("origin-pin").text], cwd=self.folder, capture_output=True, check=True
        ).stdout.decode()
        return port, files, f"sha256//{pin.strip()}"

    def test_nginx(self) -> None:
        """With the right authority and name files come and go; with another name there is a page that says why not."""
        port, authority, files = self.asNginx()
        origin = f"https://{HERE}:{port}"
        self.serve(
            good={"origin": origin, "origin-ca": authority, "origin-name": DEV},
            wrong={"origin": origin, "origin-ca": authority},
            unknown={"origin": origin, "origin-name": DEV},
        )
        expected = randomFile(files / "file", 8 * MIB)
        back = self.folder / "back"
        for _ in range(3):
            self.ask("good", "/file", "--fail", "--output", str(back))
            self.assertEqual(checksum(back), expected)
        self.ask("good", "/sent", "--fail", "--upload-file", str(back))
        self.assertEqual(checksum(files / "sent"), expected)
        for key, sentence in (
            ("wrong", f"The server's certificate is for another name: wanted {HERE}, it has {DEV}."),
            ("unknown", f"The server's certificate is from an unknown authority: CN=The authority of {DEV}."),
        ):
            problem = json.loads(self.ask(key, "/", "--header", "Accept: application/json"))
            self.assertEqual((problem["status"], problem["detail"]), (502, sentence))
            self.served.awaitEvent("agent.visit-failed", to=key, problem=sentence)

    def test_noGoodbye(self) -> None:
        """A self-signed server that ends connections below TLS is believed by one's own wish, down to its last byte."""
        port, files, pin = self.asDeveloper()
        origin = f"https://{HERE}:{port}"
        self.serve(
            closed={"origin": origin},
            pinned={"origin": origin, "origin-pin": pin},
            open={"origin": origin, "origin-verify": False},
        )
        self.served.awaitEvent("agent.origin-unverified", service="open", origin=f"{HERE}:{port}")
        problem = json.loads(self.ask("closed", "/", "--header", "Accept: application/json"))
        self.assertIn(f"is self-signed, and no pin is set. Its pin is {pin}.", problem["detail"])
        expected = randomFile(files / "file", 16 * MIB)
        back = self.folder / "back"
        for key in ("open", "pinned") * 3:
            self.ask(key, "/file", "--fail", "--output", str(back))
            self.assertEqual(checksum(back), expected)

    def test_webSocket(self) -> None:
        """A WebSocket goes through, and so does what takes its time."""
        node = self.node()
        port, authority, _ = self.asNginx(
            f"location / {{ proxy_pass http://{HERE}:{node}; proxy_http_version 1.1; proxy_set_header Host $http_host;"
            " proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }"
        )
        self.serve(chat={"origin": f"https://{HERE}:{port}", "origin-ca": authority, "origin-name": DEV})
        client = RawWebSocket.connect((HERE, self.running.http), "/ws", headers={"Host": f"chat.{HOST}"})
        self.addCleanup(client.drop)
        client.sendText("hello")
        frame = client.receive(SECONDS)
        self.assertEqual((frame.opcode, frame.payload), (TEXT, b"hello"))
        for number in range(50):
            client.sendBinary(bytes([number]) * 50_000)
        for number in range(50):
            self.assertEqual(client.receive(SECONDS).payload, bytes([number]) * 50_000)

    def test_openssl(self) -> None:
        """A port without TLS leads to an origin with it, whatever the two say to one another."""
        port = freePort()
        authority, certificate, key = self.credential(DEV)
        arguments = ["-accept", f"{HERE}:{port}", "-cert", certificate, "-key", key, "-rev", "-quiet"]
        self.origin(port, program("openssl"), "s_server", *arguments)
        self.running = self.gateway()
        service = self.service(
            key="rev", kind="tcp", origin=f"tls://{HERE}:{port}", **{"origin-ca": authority, "origin-name": DEV}
        )
        agent = self.agent(self.running, config=f'{service}health = {{ kind = "tcp", interval = 1 }}\n')
        with socket.create_connection((HERE, agent.port("rev")), SECONDS) as visitor:
            for word in (b"hello\n", b"world\n"):
                visitor.sendall(word)
                self.assertEqual(visitor.recv(100), word.rstrip()[::-1] + b"\n")
