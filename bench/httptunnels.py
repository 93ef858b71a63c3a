"""
The tunnels and proxies that C{bench.http} compares: how each is started, with what it does on the way.

Each leads from two doors, one with TLS and one without, to the same origin, which is named L{NAME} to visitors because
everything resolves that to this machine::

    with TXGATEWAY.open(origin) as way:
        print(way.url("https"))
"""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import URLError

from tests.processes import freePort

from .harness import HERE, cpuSeconds, family
from .tunnels import OURS, SECRET, Contestant, Line, Setup, issue, programPath

NAME = "localhost"

PROBE = "/1024"
"""What an origin must answer for a way to be called open: 1 KiB."""

_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 10000000;
    open_file_cache max=100;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {rest}
}}
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Where everything leads.

    @ivar port: where it speaks plain HTTP/1.1.
    @ivar securePort: the same inside of TLS.
    """

    port: int
    securePort: int


@dataclass(frozen=True, slots=True)
class HttpWay:
    """
    A way that is open.

    @ivar doors: the port for each scheme.
    @ivar pids: by what the process is: C{server}, C{agent}.
    """

    doors: Mapping[str, int]
    pids: Mapping[str, int]

    def url(self, scheme: str, path: str = "/") -> str:
        """Where something is for visitors."""
        return f"{scheme}://{NAME}:{self.doors[scheme]}{path}"

    def cpu(self) -> float:
        """Return the CPU seconds so far, of all its processes."""
        return sum(map(cpuSeconds, self.pids.values()))

    def held(self) -> int:
        """Return how many descriptors its server has open."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in family(self.pids["server"]))


@dataclass(frozen=True, slots=True)
class HttpTunnel(Contestant):
    """
    Carries HTTP. It is started in a setup, whose C{line} leads to the plain origin, with a port for TLS.
    """

    @contextmanager
    def open(self, origin: Origin) -> Iterator[HttpWay]:
        """Start it, for one C{with} block, and wait until both doors lead to the origin."""
        with ExitStack() as stack:
            if self is DIRECT:
                yield HttpWay({"http": origin.port, "https": origin.securePort}, {})
                return
            setup = Setup(stack, Line(origin.port))
            secure = freePort()
            self.start(setup, secure)
            way = HttpWay({"http": setup.door, "https": secure}, dict(setup.pids))
            for scheme in way.doors:
                setup.awaitThat(f"{self.name} serves {scheme}", partial(_answers, way.url(scheme, PROBE)))
            yield way


def _answers(url: str) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=1.0, context=context) as answer:
            return bool(answer.status == 200)
    except (OSError, URLError):
        return False


@contextmanager
def origin(files: Mapping[str, int]) -> Iterator[Origin]:
    """
    Serve files of these sizes, by name, from nginx, for one C{with} block.
    """
    with ExitStack() as stack:
        setup = Setup(stack, Line(0))
        served = Origin(setup.door, freePort())
        certificate, key = issue()[1].write(str(setup.folder))
        (setup.folder / "files").mkdir()
        for name, size in files.items():
            setup.write(f"files/{name}", bytes(size))
        server = (
            f"server {{ listen {HERE}:{served.port} backlog=4096;"
            f"listen {HERE}:{served.securePort} ssl http2 backlog=4096;"
            f"ssl_certificate {certificate}; ssl_certificate_key {key}; root {setup.folder}/files; dav_methods PUT; }}"
        )
        nginx(setup, "origin", server)
        setup.awaitThat("the origin answers", lambda: _answers(f"http://{HERE}:{served.port}{PROBE}"))
        yield served


def nginx(setup: Setup, name: str, rest: str) -> None:
    """
    Start nginx.

    @param rest: of its configuration: its servers.
    """
    # The worker gives up root, and has to get to its files all the same.
    setup.folder.chmod(0o755)
    for path in setup.folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    config = setup.write(f"{name}.conf", _NGINX.format(folder=setup.folder, rest=rest))
    setup.run(name, programPath("nginx"), "-c", config, "-p", str(setup.folder), "-e", "stderr")


def _txgateway(tls: bool) -> Callable[[Setup, int], None]:
    def start(setup: Setup, secure: int) -> None:
        authority, credential = issue()
        certificate, key = credential.write(str(setup.folder))
        secret = setup.write("secret", SECRET)
        config = f"""
            [gateway]
            public-host = "gateway.test"
            drain-seconds = 0
            [tls]
            listen = ["{HERE}:{secure}"]
            [http]
            listen = ["{HERE}:{setup.door}"]
            [agents]
            {"listen" if tls else "plain-listen"} = ["{HERE}:{setup.server}"]
            [[agent]]
            name = "bench"
            secret-file = "{secret}"
            hostnames = ["{NAME}"]
            [[certificate]]
            hostnames = ["gateway.test", "{NAME}"]
            certificate = "{certificate}"
            key = "{key}"
            [limits]  # others have none
            per-address = 0
            requests-per-address = 0
            undecided = 10000
            undecided-per-address = 10000
            new-per-second = 0
            new-per-second-per-address = 0
            [management]
            listen = ["{HERE}:{freePort()}"]
            """
        setup.run("server", OURS, "serve", "--config", setup.write("gateway.toml", config))
        setup.awaitPort()
        to = f"tls://{NAME}:{setup.via}" if tls else f"tcp://{HERE}:{setup.via}"
        command = [OURS, "agent", "--to", to, "--name", "bench", "--secret-file", secret, "--drain", "0"]
        if tls:
            command += ["--ca", authority.write(str(setup.folder / "ca.pem"))]
        setup.run("agent", *command, "--http", f"{NAME}={HERE}:{setup.line.target}")

    return start


def _frp(tls: bool) -> Callable[[Setup, int], None]:
    def start(setup: Setup, secure: int) -> None:
        certificate, key = issue()[1].write(str(setup.folder))
        server = {
            "auth": {"token": SECRET},
            "bindAddr": HERE,
            "proxyBindAddr": HERE,
            "bindPort": setup.server,
            "vhostHTTPPort": setup.door,
            "vhostHTTPSPort": secure,
        }
        origin = f"{HERE}:{setup.line.target}"
        agent = {
            "auth": {"token": SECRET},
            "serverAddr": HERE,
            "serverPort": setup.via,
            "transport": {"tls": {"enable": tls}},
            "proxies": [
                {
                    "name": "http",
                    "type": "http",
                    "customDomains": [NAME],
                    "localIP": HERE,
                    "localPort": setup.line.target,
                },
                {
                    "name": "https",
                    "type": "https",
                    "customDomains": [NAME],
                    "plugin": {"type": "https2http", "localAddr": origin, "crtPath": certificate, "keyPath": key},
                },
            ],
        }
        setup.run("server", programPath("frps"), "-c", setup.write("frps.json", json.dumps(server)))
        setup.awaitPort()
        setup.run("agent", programPath("frpc"), "-c", setup.write("frpc.json", json.dumps(agent)))

    return start


def _haproxy(setup: Setup, secure: int) -> None:
    credential = issue()[1]
    both = setup.write("both.pem", credential.certificatePEM + credential.keyPEM)
    config = f"""
global
    maxconn 5000
    nbthread 1
defaults
    mode http
    timeout connect 10s
    timeout client 300s
    timeout server 300s
    option forwardfor
listen web
    bind {HERE}:{setup.door}
    bind {HERE}:{secure} ssl crt {both} alpn h2,http/1.1
    server origin {HERE}:{setup.line.target}
"""
    setup.run("server", programPath("haproxy"), "-db", "-f", setup.write("haproxy.cfg", config))


def _nginxProxy(setup: Setup, secure: int) -> None:
    certificate, key = issue()[1].write(str(setup.folder))
    rest = f"""
    upstream origin {{ server {HERE}:{setup.line.target}; keepalive 64; }}
    server {{
        listen {HERE}:{setup.door};
        listen {HERE}:{secure} ssl http2;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
    """
    nginx(setup, "server", rest)


def _direct(setup: Setup, secure: int) -> None:
    """No process at all."""


TXGATEWAY = HttpTunnel("txgateway", "a tunnel, TLS, one connection; visitors' TLS ends at the server", _txgateway(True))
FRP = HttpTunnel("frp", "a tunnel, TLS, one connection; visitors' TLS ends at the agent", _frp(True), ("frps", "frpc"))
DIRECT = HttpTunnel("direct", "no tunnel: the origin, nginx", _direct)

HTTP_TUNNELS = (
    TXGATEWAY,
    FRP,
    HttpTunnel("txgateway, plain", "the same, no TLS inside the tunnel", _txgateway(False)),
    HttpTunnel("frp, plain", "the same, no TLS inside the tunnel", _frp(False), ("frps", "frpc")),
    HttpTunnel("haproxy", "one process, one hop, no tunnel", _haproxy, ("haproxy",)),
    HttpTunnel("nginx", "one process, one hop, no tunnel", _nginxProxy),
    DIRECT,
)
