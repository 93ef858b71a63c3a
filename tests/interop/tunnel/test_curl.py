"""
curl, through a gateway and an agent, to nginx: in each way that leads to a web server.
"""

from __future__ import annotations

import os

from tests.interop.running import program
from tests.interop.tunnels import MIB, RunningGateway, TunnelTestCase, checksum, randomFile
from tests.interop.webserver import startNginx
from tests.processes import HERE, freePort

BULK = 1024 * MIB
SHOP, APP = "shop.gw.test", "app.gw.test"


class CurlTests(TunnelTestCase):
    """Files go up and down, whole."""

    deadline = 180

    def setUp(self) -> None:
        super().setUp()
        program("curl")

    def curl(self, gateway: RunningGateway, authority: str, *arguments: str, status: int = 0) -> str:
        """Run curl, for which all names of the gateway's are this machine."""
        places = [f"{name}:{port}:{HERE}" for name in (SHOP, APP) for port in (gateway.tls, gateway.http)]
        resolve = [word for place in places for word in ("--resolve", place)]
        usual = ["--disable", "--silent", "--show-error", "--fail", "--noproxy", "*", "--cacert", authority]
        return self.call("curl", *usual, *resolve, *arguments, status=status)

    def assertCarries(self, gateway: RunningGateway, authority: str, url: str, size: int) -> None:
        """A file comes down and goes up as it is, and what is missing of an interrupted download can be had."""
        whole, down, up = self.folder / "whole", self.nginx.files / "down", self.nginx.files / "up"
        expected = randomFile(down, size)
        self.curl(gateway, authority, "--output", str(whole), f"{url}down")
        self.assertEqual(checksum(whole), expected)
        os.truncate(whole, size // 3 * 2)
        self.curl(gateway, authority, "--continue-at", "-", "--output", str(whole), f"{url}down")
        down.unlink()
        self.curl(gateway, authority, "--upload-file", str(whole), f"{url}up")
        self.assertEqual(checksum(up), expected)

    def web(self, server: str) -> str:
        """Start nginx, and return where it is."""
        port = freePort()
        self.nginx = startNginx(self, self.folder / "web", port, server.format(f"{HERE}:{port}"))
        return f"{HERE}:{port}"

    def test_passthrough(self) -> None:
        """Of TLS that is passed on curl sees the origin's own certificate, and the origin curl's address."""
        authority, certificate, key = self.credential(SHOP)
        origin = self.web(
            f"listen {{}} ssl proxy_protocol; ssl_certificate {certificate}; ssl_certificate_key {key};"
            "set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;"
        )
        gateway = self.gateway()
        self.agent(gateway, "--tls", f"{SHOP}={origin}").awaitEvent("agent.serving")
        url = gateway.url("https", SHOP)
        self.assertCarries(gateway, authority, url, BULK)
        self.curl(gateway, gateway.authority, f"{url}up", status=60)  # an authority that curl does not know
        self.curl(gateway, authority, "--interface", "127.0.0.9", "--range", "0-9", f"{url}up")
        self.assertEqual(self.nginx.visitors(4), [HERE, HERE, HERE, "127.0.0.9"])

    def test_terminated(self) -> None:
        """Of TLS that ends at the gateway curl sees the gateway's certificate."""
        origin = self.web("listen {};")
        gateway = self.gateway()
        self.agent(gateway, "--http", f"{APP}={origin}").awaitEvent("agent.serving")
        self.assertCarries(gateway, gateway.authority, gateway.url("https", APP), 32 * MIB)

    def test_plain(self) -> None:
        """The same name is there without TLS."""
        origin = self.web("listen {};")
        gateway = self.gateway()
        self.agent(gateway, "--http", f"{APP}={origin}").awaitEvent("agent.serving")
        self.assertCarries(gateway, gateway.authority, gateway.url("http", APP), 32 * MIB)

    def test_manyAtOnce(self) -> None:
        """100 requests over 20 connections at once are answered, each with its own file."""
        origin = self.web("listen {};")
        gateway = self.gateway()
        self.agent(gateway, "--http", f"{APP}={origin}").awaitEvent("agent.serving")
        for number in range(100):
            (self.nginx.files / f"{number:02}").write_text(f"{number}\n" * 10000)
        url, pattern = gateway.url("https", APP), str(self.folder / "got#1")
        self.curl(
            gateway, gateway.authority, "--parallel", "--parallel-max", "20", "--output", pattern, f"{url}[00-99]"
        )
        for number in range(100):
            self.assertEqual((self.folder / f"got{number:02}").read_text(), f"{number}\n" * 10000)
