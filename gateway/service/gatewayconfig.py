"""
What C{gateway.toml} may say: every section and key, with its default and its text.

C{docs/reference/gateway-toml.md} is written from here, so each text is for the person who writes the file. Texts that
stand for something else - addresses, rules, ranges - are taken apart in L{gateway.service.gatewaysettings}::

    config = readConfiguration("gateway.toml", GatewayConfig, environ=os.environ)
    config.tls.listen       # ("0.0.0.0:443",)
"""

__all__ = [
    "AgentEntrySection",
    "AgentsSection",
    "CertificateSection",
    "DoorSection",
    "GatewayConfig",
    "GatewaySection",
    "GrantSection",
    "JwtSection",
    "LimitsSection",
    "ManagementSection",
    "PortsSection",
    "TabbySection",
]

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from gateway.service.configuration import Section

Texts = tuple[str, ...]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0)]
MiB = Annotated[int, Meta(ge=1, le=1024 * 1024)]

_LISTEN = "addresses and ports to listen on, as `0.0.0.0:443`, `[::]:443` or `:443`; or endpoint strings of Twisted's"
_ACCESS = (
    "rules for visitors' addresses: `allow` or `deny`, and an address, a network or `*`; the first that fits decides"
)
_PROXIES = (
    "networks of proxies: their connections must begin with a PROXY header, version 1 or 2; nobody else's is read"
)


class GatewaySection(Section, frozen=True):
    """The gateway itself."""

    publicHost: Annotated[str, Meta(description="the name under which agents and visitors reach this gateway")] = ""
    drainSeconds: Annotated[
        float, Meta(ge=0, le=86_400, description="seconds that visitors have to end at SIGTERM")
    ] = 10.0


class DoorSection(Section, frozen=True):
    """A port for visitors."""

    listen: Annotated[Texts, Meta(description=_LISTEN)] = ()
    proxyProtocolFrom: Annotated[Texts, Meta(description=_PROXIES)] = ()
    access: Annotated[Texts, Meta(description=_ACCESS)] = ()


class AgentsSection(Section, frozen=True):
    """How agents reach this gateway, besides the public TLS port."""

    listen: Annotated[Texts, Meta(description=_LISTEN + "; TLS for agents alone")] = ()
    plainListen: Annotated[Texts, Meta(description="the same without TLS: loopback addresses only")] = ()
    websocketPath: Annotated[
        str,
        Meta(pattern="^/[^?# ]*$", description="where on `gateway.public-host` agents open a WebSocket"),
    ] = "/agent"
    clientCa: Annotated[
        str,
        Meta(description="PEM file of the authorities whose client certificates are looked at on `agents.listen`"),
    ] = ""


class JwtSection(Section, frozen=True):
    """Whose JSON Web Tokens prove this agent."""

    keyFile: Annotated[str, Meta(description="file with a secret of at least 32 bytes (HMAC), or a public key in PEM")]
    algorithms: Annotated[Texts, Meta(min_length=1, description="that the key may be used with")] = ("HS256",)
    issuer: Annotated[str, Meta(description="what the claim `iss` must be; empty: not asked")] = ""
    audience: Annotated[str, Meta(description="what the claim `aud` must hold; empty: not asked")] = ""


class GrantSection(Section, frozen=True):
    """How much an agent may take. What is left out has no limit."""

    sessions: Annotated[Count | None, Meta(description="sessions at once, all replicas together")] = None
    services: Annotated[Count | None, Meta(description="services of one session")] = None
    streams: Annotated[Count | None, Meta(description="visitors at once, in one session")] = None
    newPerSecond: Annotated[Rate | None, Meta(description="new visitors per second, in one session")] = None
    bytesPerSecond: Annotated[
        Count | None, Meta(description="payload in each direction, all streams of a session together")
    ] = None


class AgentEntrySection(Section, frozen=True):
    """An agent that may come. There may be many."""

    name: Annotated[str, Meta(description="its name, one label; `*` for agents of any name")]
    secretHash: Annotated[str, Meta(description="the hash of its secret, as `gateway secret` prints it")] = ""
    secretHashes: Annotated[Texts, Meta(description="several, for a change of the secret without an outage")] = ()
    secretFile: Annotated[str, Meta(description="a file that holds the secret itself")] = ""
    certificates: Annotated[
        Texts, Meta(description="SHA-256 fingerprints of its client certificates; needs `agents.client-ca`")
    ] = ()
    jwt: Annotated[JwtSection | None, Meta(description="tokens that prove it")] = None
    hostnames: Annotated[
        Texts, Meta(description="the names that it may serve; `*.example.com` is any name one label below; `*` is any")
    ] = ()
    ports: Annotated[Texts, Meta(description='the ports that it may serve, as `"2222"` or `"20000-29999"`')] = ()
    targets: Annotated[
        Texts,
        Meta(
            description="rules for the names that it may connect to through this gateway, as `allow *.box.agent` or"
            " `allow app.example.com`; without any, none"
        ),
    ] = ()
    limits: Annotated[GrantSection, Meta(description="how much it may take")] = GrantSection()
    expires: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(description="from when on it is not known, with the zone, as `2027-01-31T00:00:00Z`"),
    ] = None


class CertificateSection(Section, frozen=True):
    """A certificate for names whose TLS ends here. There may be many. The files are read again when they change."""

    hostnames: Annotated[
        Texts, Meta(min_length=1, description="names that it is for; `*.example.com` is every name one label below")
    ]
    certificate: Annotated[str, Meta(description="PEM file of the certificate and its chain")]
    key: Annotated[str, Meta(description="PEM file of its private key")]


class PortsSection(Section, frozen=True):
    """The TCP and UDP ports that agents ask for."""

    interfaces: Annotated[Texts, Meta(min_length=1, description="addresses of this machine to open them on")] = (
        "0.0.0.0",  # noqa: S104  # what is public is for agents to say
    )
    privileged: Annotated[bool, Meta(description="whether those below 1024 are among them")] = False
    automatic: Annotated[
        str, Meta(description="the range to choose from for an agent that leaves the choice to the gateway")
    ] = "20000-29999"
    access: Annotated[Texts, Meta(description=_ACCESS)] = ()
    proxyProtocolFrom: Annotated[Texts, Meta(description=_PROXIES)] = ()


class LimitsSection(Section, frozen=True):
    """What keeps one visitor from taking the place of all others. Zero is no limit where it says so."""

    perAddress: Annotated[int, Meta(ge=0, description="connections at once of one address; 0: no limit")] = 1000
    newPerSecondPerAddress: Annotated[
        float, Meta(ge=0, description="new connections per second of one address; 0: no limit")
    ] = 200.0
    newPerSecond: Annotated[float, Meta(ge=0, description="new connections per second of all; 0: no limit")] = 2000.0
    undecided: Annotated[Count, Meta(description="connections at once of which it is not known yet what they want")] = (
        2000
    )
    undecidedPerAddress: Annotated[Count, Meta(description="the same, of one address")] = 100
    routeConnections: Annotated[int, Meta(ge=0, description="visitors at once of one name or port; 0: no limit")] = 0
    routeNewPerSecond: Annotated[
        float, Meta(ge=0, description="new visitors per second of one name or port; 0: no limit")
    ] = 0.0
    routeBytesPerSecond: Annotated[
        int, Meta(ge=0, description="payload in each direction, all visitors of one name or port together; 0: no limit")
    ] = 0
    unregistered: Annotated[Count, Meta(description="agents' connections at once that have not registered")] = 1000
    unregisteredPerAddress: Annotated[Count, Meta(description="the same, of one address")] = 50
    stallMemory: Annotated[MiB, Meta(description="MiB that may be held for those who do not read")] = 512
    windowMemory: Annotated[MiB, Meta(description="MiB by which windows of streams may grow, all together")] = 256
    helloTimeout: Annotated[Seconds, Meta(description="seconds for a visitor's ClientHello, or a PROXY header")] = 5.0
    handshakeTimeout: Annotated[Seconds, Meta(description="seconds for a TLS handshake")] = 10.0
    headTimeout: Annotated[Seconds, Meta(description="seconds for the head of a request")] = 10.0
    registerTimeout: Annotated[Seconds, Meta(description="seconds for an agent to register")] = 10.0
    connectTimeout: Annotated[Seconds, Meta(description="seconds for an agent to reach an origin")] = 20.0
    idleTimeout: Annotated[
        float, Meta(ge=0, description="seconds without a byte after which a visit ends; 0: never")
    ] = 0.0
    pingInterval: Annotated[
        float, Meta(ge=1, le=3600, description="seconds between pings; a dead agent is found within two")
    ] = 15.0
    banAfter: Annotated[int, Meta(ge=0, description="wrong credentials in a minute that ban an address; 0: never")] = 10
    banSeconds: Annotated[Seconds, Meta(description="for how long")] = 600.0


class ManagementSection(Section, frozen=True):
    """Metrics, health and a page that shows who is here."""

    listen: Annotated[Texts, Meta(description=_LISTEN + "; anything but loopback needs `management.password-hash`")] = (
        "127.0.0.1:9080",
    )
    passwordHash: Annotated[
        str,
        Meta(description="the hash of a password, as `gateway secret` prints it; it is asked for under any user name"),
    ] = ""
    hosts: Annotated[
        Texts, Meta(description="names under which it may be addressed, besides addresses and `localhost`")
    ] = ()


class TabbySection(Section, frozen=True):
    """A [gateway for Tabby Web](../howto/tabby-web.md) in the same process, whose users reach what is behind agents."""

    options: Annotated[
        Texts,
        Meta(
            description="the [options](tabby-options.md) of `gateway tabby`, each word a text of its own; empty: there"
            " is none. Names such as `ssh.box.agent`, `box.agent` and `db.via.box.agent` lead to agents,"
            " and target rules about names decide who may go there"
        ),
    ] = ()


class GatewayConfig(Section, frozen=True):
    """All of it."""

    gateway: GatewaySection = GatewaySection()
    tls: DoorSection = DoorSection()
    http: DoorSection = DoorSection()
    agents: AgentsSection = AgentsSection()
    agent: tuple[AgentEntrySection, ...] = ()
    certificate: tuple[CertificateSection, ...] = ()
    ports: PortsSection = PortsSection()
    limits: LimitsSection = LimitsSection()
    management: ManagementSection = ManagementSection()
    tabby: TabbySection = TabbySection()
