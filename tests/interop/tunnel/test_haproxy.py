"""
haproxy in front of a gateway and nginx behind the agent: who the visitor is goes through all of them.
"""

from __future__ import annotations

import socket

from tests.interop.running import Running, program, start
from tests.interop.tunnels import RunningGateway, TunnelTestCase
from tests.interop.webserver import Nginx, startNginx
from tests.processes import HERE, eventually, freePort

SHOP, APP = "shop.gw.test", "app.gw.test"
VISITOR = "127.0.0.9"
"""Every address of this network is this machine, so that a visitor can have another one than haproxy."""

TRUSTED = f'proxy-protocol-from = ["{HERE}/32"]'

_FRONT = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen front
    bind {here}:{port}
    server gateway {here}:{gateway} {send}
"""


class ProxyHeaderTests(TunnelTestCase):
    """PROXY headers of versions 1 and 2, in and out."""

    def nginx(self) -> tuple[Nginx, str, str, str]:
        """Start nginx, which wants a PROXY header; return an authority and where it listens with TLS and without."""
        secure, plain = freePort(), freePort()
        authority, certificate, key = self.credential(SHOP)
        server = (
            f"listen {HERE}:{secure} ssl proxy_protocol; listen {HERE}:{plain} proxy_protocol;"
            f"ssl_certificate {certificate}; ssl_certificate_key {key};"
            "set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;"
        )
        nginx = startNginx(self, self.folder / "web", secure, server)
        (nginx.files / "index.html").write_text("goods")
        return nginx, authority, f"{HERE}:{secure}", f"{HERE}:{plain}"

    def haproxy(self, gateway: int, send: str) -> int:
        """Start haproxy in front of a port; return its own."""
        port = freePort()
        configuration = self.folder / f"haproxy{port}.cfg"
        configuration.write_text(_FRONT.format(here=HERE, port=port, gateway=gateway, send=send))
        running: Running = start(self, program("haproxy"), "-db", "-f", str(configuration))
        self.assertTrue(eventually(lambda: _listens(port)), running.log())
        return port

    def curl(self, url: str, name: str, port: int, authority: str, status: int = 0) -> str:
        """Get a page as the visitor."""
        return self.call(
            "curl", "--disable", "--silent", "--show-error", "--noproxy", "*", "--interface", VISITOR,
            "--max-time", "20", "--cacert", authority, "--resolve", f"{name}:{port}:{HERE}", f"{url}:{port}/",
            status=status,
        )  # fmt: skip

    def served(self, gateway: RunningGateway, secure: str, plain: str) -> None:
        """Start an agent that serves nginx in every way."""
        http = self.service(key="app", kind="http", hostnames=[APP], origin=plain, proxy_protocol="v1")
        tls = self.service(key="shop", kind="tls", hostnames=[SHOP], origin=secure)
        port = self.service(key="port", kind="tcp", port=0, origin=plain, proxy_protocol="v2")
        self.running = self.agent(gateway, config=http + tls + port)
        self.port = self.running.port("port")

    def test_throughAll(self) -> None:
        """nginx logs the visitor's address, which it has from haproxy's header by way of the agent's."""
        nginx, authority, secure, plain = self.nginx()
        gateway = self.gateway(tls=TRUSTED, http=TRUSTED, ports=TRUSTED)
        self.served(gateway, secure, plain)
        for send in ("send-proxy-v2", "send-proxy"):
            front = self.haproxy(gateway.tls, send)
            self.assertEqual(self.curl(f"https://{SHOP}", SHOP, front, authority), "goods")
            self.assertEqual(self.curl(f"https://{APP}", APP, front, gateway.authority), "goods")
            self.assertEqual(self.curl(f"http://{APP}", APP, self.haproxy(gateway.http, send), authority), "goods")
            self.assertEqual(self.curl(f"http://{APP}", APP, self.haproxy(self.port, send), authority), "goods")
        self.assertEqual(nginx.visitors(8), [VISITOR] * 8)
        self.assertEqual({each["visitor"] for each in self.running.visits()}, {VISITOR})

    def test_withoutProxy(self) -> None:
        """Without a proxy in front the visitor is who connects, and nginx is told so, in version 2 and version 1."""
        nginx, authority, secure, plain = self.nginx()
        gateway = self.gateway()
        self.served(gateway, secure, plain)
        self.assertEqual(self.curl(f"https://{SHOP}", SHOP, gateway.tls, authority), "goods")
        self.assertEqual(self.curl(f"https://{APP}", APP, gateway.tls, gateway.authority), "goods")
        self.assertEqual(self.curl(f"http://{APP}", APP, gateway.http, authority), "goods")
        self.assertEqual(self.curl(f"http://{APP}", APP, self.port, authority), "goods")
        self.assertEqual(nginx.visitors(4), [VISITOR] * 4)

    def test_unlistedProxy(self) -> None:
        """The header of somebody who is not listed is not believed: it is no TLS, and no visitor's address."""
        nginx, authority, secure, plain = self.nginx()
        gateway = self.gateway(tls=f'proxy-protocol-from = ["{VISITOR}/32"]')
        self.served(gateway, secure, plain)
        for send in ("send-proxy-v2", "send-proxy"):
            self.curl(f"https://{SHOP}", SHOP, self.haproxy(gateway.tls, send), authority, status=35)
        self.assertEqual([each["visitor"] for each in gateway.events("door.refused")], [HERE] * 2)
        self.assertEqual(nginx.visitors(0), [])

    def test_listedWithoutHeader(self) -> None:
        """A listed proxy that sends none is refused, at once when it says something else, and that is logged."""
        _, authority, secure, plain = self.nginx()
        gateway = self.gateway(tls=TRUSTED)
        self.served(gateway, secure, plain)
        self.curl(f"https://{SHOP}", SHOP, self.haproxy(gateway.tls, ""), authority, status=35)
        self.assertEqual(gateway.awaitEvent("door.proxy-refused")["peer"], HERE)


def _listens(port: int) -> bool:
    """Whether a port is taken. To connect would make haproxy connect, too, which the gateway would log."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HERE, port))
        except OSError:
            return True
    return False
