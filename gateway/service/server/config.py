"""
What C{gateway.toml} may say: every section and key, with its default and its text.

C{docs/reference/gateway-toml.md} is written from here, so each text is for the person who writes the file. Texts that
stand for something else - addresses, rules, ranges - are taken apart in L{gateway.service.server.settings}::

    config = readConfiguration("gateway.toml", GatewayConfig, environ=os.environ)
    config.tls.listen       # ("0.0.0.0:443",)

Length: one key after another, in the order of the page.
"""

__all__ = [
    "AgentEntrySection",
    "AgentsSection",
    "CertificateSection",
    "DoorSection",
    "GatewayConfig",
    "GatewaySection",
    "GrantSection",
    "HttpSection",
    "JwtSection",
    "LimitsSection",
    "ManagementSection",
    "PipeGateSection",
    "PortsSection",
    "TabbySection",
]

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from gateway.net.httpsettings import HttpSettings
from gateway.net.udp import DATAGRAM_FLOWS, DATAGRAM_IDLE
from gateway.service.configuration import FilePath, Section

Texts = tuple[str, ...]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0)]
Path = Annotated[str, Meta(pattern="^/[^?# ]*$")]
MiB = Annotated[int, Meta(ge=1, le=1024 * 1024)]
Bytes = Annotated[int, Meta(ge=1024, le=1024 * 1024)]

_HTTP = HttpSettings()


class GatewaySection(Section, frozen=True):
    """The gateway itself."""

    publicHost: str = ""
    """the name under which agents and visitors reach this gateway"""

    drainSeconds: Annotated[float, Meta(ge=0, le=86_400)] = 10.0
    """seconds that visitors have to end at SIGTERM"""


class DoorSection(Section, frozen=True):
    """A port for visitors."""

    listen: Texts = ()
    """addresses and ports to listen on, as `0.0.0.0:443`, `[::]:443` or `:443`; or endpoint strings of Twisted's"""

    proxyProtocolFrom: Texts = ()
    """networks of proxies: their connections must begin with a PROXY header, version 1 or 2; nobody else's is read"""

    access: Texts = ()
    """
    rules for visitors' addresses: `allow` or `deny`, and an address, a network or `*`; the first that fits decides, and
    where something is allowed, the rest is not
    """


class HttpSection(DoorSection, frozen=True):
    """A port for visitors without TLS; and what holds for all requests, with TLS or without."""

    trustedProxies: Texts = ()
    """
    networks of fronts that speak for others: what they say in `X-Forwarded-*`, `Forwarded` and `X-Request-ID` is
    believed; nobody else's is
    """

    httpsRedirect: bool = False
    """send visitors without TLS to the same place with it, where a service does not say otherwise"""

    hsts: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    """seconds for which browsers come by TLS alone once they were here, where a service does not say; 0: none"""

    accessLog: FilePath = ""
    """file for a line about each request; `-` is standard output; empty: none"""

    accessLogFormat: Literal["common", "combined", "json"] = "combined"
    """what a line [looks like](http.md#access-log)"""


class AgentsSection(Section, frozen=True):
    """How agents reach this gateway, besides the public TLS port."""

    listen: Texts = ()
    """
    addresses and ports to listen on, as `0.0.0.0:443`, `[::]:443` or `:443`; or endpoint strings of Twisted's; TLS
    for agents alone
    """

    plainListen: Texts = ()
    """the same without TLS: loopback addresses only"""

    websocketPath: Path = "/agent"
    """where on `gateway.public-host` agents open a WebSocket"""

    clientCa: FilePath = ""
    """PEM file of the authorities whose client certificates are looked at on `agents.listen`"""


class GoTunnelSection(Section, frozen=True):
    """Agents of go-tunnel's, which `agents.listen` takes as well."""

    jwtSecretFile: FilePath = ""
    """file with the secret that they have as `jwt_secret`; empty: they are not taken"""

    hostnames: Texts = ("*",)
    """the names that they may serve; `*.example.com` is any name one label below; `*` is any"""


class JwtSection(Section, frozen=True):
    """Whose JSON Web Tokens prove this agent."""

    keyFile: FilePath
    """file with a secret of at least 32 bytes (HMAC), or a public key in PEM"""

    algorithms: Annotated[Texts, Meta(min_length=1)] = ("HS256",)
    """that the key may be used with"""

    issuer: str = ""
    """what the claim `iss` must be; empty: not asked"""

    audience: str = ""
    """what the claim `aud` must hold; empty: not asked"""


class GrantSection(Section, frozen=True):
    """How much an agent may take. What is left out has no limit."""

    sessions: Count | None = None
    """sessions at once, all replicas together"""

    services: Count | None = None
    """services of one session"""

    streams: Count | None = None
    """visitors at once, in one session"""

    newPerSecond: Rate | None = None
    """new visitors per second, in one session"""

    bytesPerSecond: Count | None = None
    """payload in each direction, all streams of a session together"""


class AgentEntrySection(Section, frozen=True):
    """An agent that may come. There may be many."""

    name: str
    """its name, one label; `*` for agents of any name"""

    secretHash: str = ""
    """the hash of its secret, as `gateway secret` prints it"""

    secretHashes: Texts = ()
    """several, for a change of the secret without an outage"""

    secretFile: FilePath = ""
    """a file that holds the secret itself"""

    certificates: Texts = ()
    """SHA-256 fingerprints of its client certificates; needs `agents.client-ca`"""

    jwt: JwtSection | None = None
    """tokens that prove it"""

    hostnames: Texts = ()
    """the names that it may serve; `*.example.com` is any name one label below; `*` is any"""

    prefixes: Texts = ()
    """
    the paths at `gateway.public-host` that it may serve, as `/node`; `/team/*` is any below `/team`; `*` is any that
    does not begin with a dot
    """

    ports: Texts = ()
    """the ports that it may serve, as `"2222"` or `"20000-29999"`"""

    targets: Texts = ()
    """
    rules for the names that it may connect to through this gateway, as `allow *.box.agent` or `allow
    app.example.com`; without any, none
    """

    limits: GrantSection = GrantSection()
    """how much it may take"""

    expires: Annotated[datetime, Meta(tz=True)] | None = None
    """from when on it is not known, with the zone, as `2027-01-31T00:00:00Z`"""


class NetworkRelaySection(Section, frozen=True):
    """The edge agents and access clients of http-network-relay."""

    listen: Texts = ()
    """where they come to without TLS, e.g. through a proxy in front; by TLS they come to `gateway.public-host`, too"""

    credentialsFile: FilePath = ""
    """the [JSON file](network-relay-options.md#the-credentials-file) that says who they are; without it none come"""

    trustedProxies: Texts = ("127.0.0.0/8", "::1")
    """networks of proxies whose `X-Forwarded-For` is believed"""


class PipeGateSection(Section, frozen=True):
    """Clients of PipeGate's, which come by TLS to `gateway.public-host`, and serve paths below it."""

    tokensFile: FilePath = ""
    """file of [tokens](pipegate-server-options.md), each with the ids that it is good for; empty: they are not taken"""

    share: bool = False
    """let clients of one id share its visitors; otherwise the newest takes over"""


class CertificateSection(Section, frozen=True):
    """A certificate for names whose TLS ends here. There may be many. The files are read again when they change."""

    hostnames: Annotated[Texts, Meta(min_length=1)]
    """names that it is for; `*.example.com` is every name one label below"""

    certificate: FilePath
    """PEM file of the certificate and its chain"""

    key: FilePath
    """PEM file of its private key"""


class PortsSection(Section, frozen=True):
    """The TCP and UDP ports that agents ask for."""

    interfaces: Annotated[Texts, Meta(min_length=1)] = (
        "0.0.0.0",  # noqa: S104  # what is public is for agents to say
    )
    """addresses of this machine to open them on"""

    privileged: bool = False
    """whether those below 1024 are among them"""

    automatic: str = "20000-29999"
    """the range to choose from for an agent that leaves the choice to the gateway"""

    access: Texts = ()
    """
    rules for visitors' addresses: `allow` or `deny`, and an address, a network or `*`; the first that fits decides, and
    where something is allowed, the rest is not
    """

    proxyProtocolFrom: Texts = ()
    """networks of proxies: their connections must begin with a PROXY header, version 1 or 2; nobody else's is read"""


class LimitsSection(Section, frozen=True):
    """What keeps one visitor from taking the place of all others. Zero is no limit where it says so."""

    perAddress: Annotated[int, Meta(ge=0)] = 1000
    """connections at once of one address; 0: no limit"""

    newPerSecondPerAddress: Annotated[float, Meta(ge=0)] = 200.0
    """new connections per second of one address; 0: no limit"""

    bytesPerSecondPerAddress: Annotated[int, Meta(ge=0)] = 0
    """payload in each direction, all visits from one address together; 0: no limit"""

    newPerSecond: Annotated[float, Meta(ge=0)] = 2000.0
    """new connections per second of all; 0: no limit"""

    undecided: Count = 2000
    """connections at once of which it is not known yet what they want"""

    undecidedPerAddress: Count = 100
    """the same, of one address"""

    routeConnections: Annotated[int, Meta(ge=0)] = 0
    """visitors at once of one name or port; 0: no limit"""

    routeNewPerSecond: Annotated[float, Meta(ge=0)] = 0.0
    """new visitors per second of one name or port; 0: no limit"""

    routeBytesPerSecond: Annotated[int, Meta(ge=0)] = 0
    """payload in each direction, all visitors of one name or port together; 0: no limit"""

    requestsPerAddress: Annotated[int, Meta(ge=0)] = 1000
    """requests at once of one address, over all of its connections; 0: no limit"""

    routeRequests: Annotated[int, Meta(ge=0)] = 0
    """requests at once of one name or prefix; 0: no limit"""

    requestsPerConnection: Count = _HTTP.requests
    """requests on one connection, which is closed after the last"""

    unregistered: Count = 1000
    """agents' connections at once that have not registered"""

    unregisteredPerAddress: Count = 50
    """the same, of one address"""

    stallMemory: MiB = 512
    """MiB that may be held for those who do not read"""

    windowMemory: MiB = 256
    """MiB by which windows of streams may grow, all together"""

    helloTimeout: Seconds = 5.0
    """seconds for a visitor's ClientHello, or a PROXY header"""

    handshakeTimeout: Seconds = 10.0
    """seconds for a TLS handshake"""

    headTimeout: Seconds = _HTTP.headTimeout
    """seconds for the head of a request"""

    headBytes: Bytes = _HTTP.headLimit
    """bytes of the head of a request"""

    headFields: Count = _HTTP.headFields
    """headers of a request"""

    bodyBytes: Annotated[int, Meta(ge=0)] = 0
    """bytes of the body of a request; a service may take fewer; 0: no limit"""

    bodyRate: Annotated[int, Meta(ge=0)] = _HTTP.bodyRate
    """bytes per second of the body of a request, at least, in the mean of `body-grace`; 0: no limit"""

    bodyGrace: Seconds = _HTTP.bodyGrace
    """seconds over which that is counted"""

    takeTimeout: Seconds = _HTTP.takeTimeout
    """seconds for a visitor to take some of a response that waits for them"""

    takeLimit: Seconds = _HTTP.takeLimit
    """seconds for a visitor to take all that waits for them, 304 KiB at most"""

    keepAliveTimeout: Seconds = _HTTP.idleTimeout
    """seconds from a response to the next request"""

    originTimeout: Seconds = _HTTP.originHeadTimeout
    """seconds from the end of a request to the head of its response, or in which the origin takes nothing of it"""

    originHeadBytes: Bytes = _HTTP.originHeadLimit
    """bytes of the head of a response"""

    originIdleConnections: Annotated[int, Meta(ge=0)] = _HTTP.originIdle
    """connections to an origin that are kept for the next request, for each replica of an agent"""

    originIdleTimeout: Seconds = _HTTP.originIdleTimeout
    """seconds for which they are"""

    h2Streams: Annotated[int, Meta(ge=1, le=10_000)] = _HTTP.http2.streams
    """requests at once on one HTTP/2 connection"""

    h2Backlog: Annotated[int, Meta(ge=64 * 1024, le=1024**3)] = _HTTP.backlog
    """bytes that may wait to be sent on one HTTP/2 connection; what is more waits at its origin"""

    h2Resets: Count = _HTTP.http2.resets
    """requests that a visitor may cancel on one HTTP/2 connection in half a minute, before it is closed"""

    h2Controls: Count = _HTTP.http2.controls
    """frames of settings, pings and the like on one HTTP/2 connection in half a minute, before it is closed"""

    registerTimeout: Seconds = 10.0
    """seconds for an agent to register"""

    connectTimeout: Seconds = _HTTP.dialTimeout
    """seconds for an agent to reach an origin"""

    idleTimeout: Annotated[float, Meta(ge=0)] = 0.0
    """seconds without a byte after which a visit ends; 0: never"""

    udpIdleTimeout: Seconds = DATAGRAM_IDLE
    """the same for a visit by UDP, of which nobody says that it is over; agents have such a time, too"""

    udpFlowsPerPort: Count = DATAGRAM_FLOWS
    """visitors at once, told apart by address and port, of one UDP port on one interface"""

    pingInterval: Annotated[float, Meta(ge=1, le=3600)] = 15.0
    """seconds between pings; a dead agent is found within two"""

    banAfter: Annotated[int, Meta(ge=0)] = 10
    """wrong credentials in a minute that ban an address; 0: never"""

    banSeconds: Seconds = 600.0
    """for how long"""


class ManagementSection(Section, frozen=True):
    """Metrics, health and a page that shows who is here."""

    listen: Texts = ("127.0.0.1:9080",)
    """
    addresses and ports to listen on, as `0.0.0.0:443`, `[::]:443` or `:443`; or endpoint strings of Twisted's;
    anything but loopback needs `management.password-hash`
    """

    passwordHash: str = ""
    """the hash of a password, as `gateway secret` prints it; it is asked for under any user name"""

    hosts: Texts = ()
    """names under which it may be addressed, besides addresses and `localhost`"""


class TabbySection(Section, frozen=True):
    """A [gateway for Tabby Web](../howto/tabby-web.md) in the same process, whose users reach what is behind agents."""

    options: Texts = ()
    """
    the [options](tabby-options.md) of `gateway tabby`, each word a text of its own; empty: there is none. Paths among
    them are relative to the working directory. Names such as `ssh.box.agent`, `box.agent` and `db.via.box.agent` lead
    to agents, and target rules about names decide who may go there
    """


class GatewayConfig(Section, frozen=True):
    """All of it."""

    gateway: GatewaySection = GatewaySection()
    tls: DoorSection = DoorSection()
    http: HttpSection = HttpSection()
    agents: AgentsSection = AgentsSection()
    agent: tuple[AgentEntrySection, ...] = ()
    gotunnel: GoTunnelSection = GoTunnelSection()
    networkrelay: NetworkRelaySection = NetworkRelaySection()
    pipegate: PipeGateSection = PipeGateSection()
    certificate: tuple[CertificateSection, ...] = ()
    ports: PortsSection = PortsSection()
    limits: LimitsSection = LimitsSection()
    management: ManagementSection = ManagementSection()
    tabby: TabbySection = TabbySection()
