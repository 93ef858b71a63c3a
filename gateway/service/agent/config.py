"""
What an agent can be told: the keys of C{agent.toml}, and what becomes of them.

L{AgentConfig} is the file as it is written. L{agentPlan} makes of it what the agent works with, and finds what is wrong
with it before anything starts, down to what the gateway would refuse::

    config = readConfiguration("agent.toml", AgentConfig, environ=os.environ)
    plan = agentPlan(config, os.environ)            # ConfigurationError names the key

The credential is not in the plan. It is read for each session anew, so that a secret can be changed without a restart.

Length: one key after another, in the order of the page.
"""

__all__ = [
    "AgentConfig",
    "AgentPlan",
    "GatewaySection",
    "HealthSection",
    "LimitsSection",
    "ServiceKind",
    "ServiceSection",
    "agentPlan",
    "checkPlan",
    "checkedService",
    "defaultName",
    "originOf",
    "readCredential",
    "wireService",
]

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway import __version__
from gateway.domain.rules import parseRuleLine
from gateway.domain.targets import ITargetPolicy, Target, TargetPolicy
from gateway.net.udp import DATAGRAM_IDLE
from gateway.service import configuration
from gateway.service.agent.carrier import GatewayLink, checkFiles, gatewayLink
from gateway.service.agent.httpconfig import HttpSection, httpOptions
from gateway.service.agent.origins import Origin, OriginTLS, ServiceKind, originTLS, parseOriginURL
from gateway.service.configuration import CREDENTIAL_LIMIT, ConfigurationError, Section, readCredentialFile
from gateway.wire.agentcontrol import (
    Credential,
    JwtCredential,
    Register,
    SecretCredential,
    Service,
    decode,
    encode,
)
from gateway.wire.errors import LocalProtocolError, RemoteProtocolError

SECRET = "GATEWAY_SECRET"
JWT = "GATEWAY_JWT"
"""Variables that hold a credential themselves, where a file would be one too many."""

_FORMS = {
    "key": "a key has letters a to z, digits and -, and at most 63 of them",
    "prefixes": "a prefix is as /node or /team/node: letters, digits and any of .-_~ behind each slash",
}
"""What a service's text should look like, in place of the regular expression that says so exactly."""

Seconds = Annotated[float, Meta(ge=0.1, le=86400)]
Count = Annotated[int, Meta(ge=1)]
FilePath = Annotated[configuration.FilePath, Meta(min_length=1)]


class GatewaySection(Section, frozen=True):
    """Where the gateway is, and who the agent is to it."""

    to: str
    """`wss://HOST/PATH`, `tls://HOST:PORT`, or on this machine `tcp://127.0.0.1:PORT`"""

    name: str = ""
    """the agent's name; the short name of the machine if it is empty"""

    replica: str = ""
    """which of several agents of that name this is; the same again after a restart"""

    secretFile: FilePath | None = None
    """file with the secret that proves the name"""

    jwtFile: FilePath | None = None
    """file with a JSON Web Token that does"""

    ca: FilePath | None = None
    """PEM file of the authorities that are believed; else those of the system"""

    pin: str | None = None
    """`sha256//BASE64` of the gateway's public key, believed alone; several with `;`"""

    certificate: FilePath | None = None
    """PEM file of the agent's own certificate"""

    key: FilePath | None = None
    """PEM file of its key, if it is not in the same file"""

    proxy: str | None = None
    """`http://[USER:PASSWORD@]HOST:PORT` to go through; empty: none; else `HTTPS_PROXY`, `NO_PROXY`"""


class HealthSection(Section, frozen=True):
    """How to see whether an origin works."""

    kind: Literal["tcp", "http"] = "tcp"
    """connect, by TLS where the origin speaks it, or also ask for a page"""

    path: str = "/"
    """of that page; each status from 200 to 399 is good"""

    interval: Seconds = 10.0
    """seconds between two looks, and for each of them at most"""

    rise: Count = 2
    """looks in a row that must be good to take visitors again"""

    fall: Count = 3
    """looks in a row that must be bad to take none"""


class ServiceSection(Section, frozen=True):
    """Something that is served."""

    key: str
    """the agent's own name for the service"""

    kind: ServiceKind
    """how visitors find it"""

    origin: str
    """
    where it is: `HOST:PORT`, `PORT` of the agent's machine, or `unix:/PATH`; one that speaks TLS itself, for `http`
    `https://HOST:PORT`, for `tcp` and for `tls` that ends at the gateway `tls://HOST:PORT`
    """

    originName: str = ""
    """the name that the certificate of an origin with TLS has to have, and that it is asked for; empty: the host"""

    originCa: FilePath | None = None
    """PEM file of the authorities that such an origin is believed with; else those of the system"""

    originPin: str | None = None
    """`sha256//BASE64` of such an origin's public key, believed alone; several with `;`"""

    originVerify: bool = True
    """`false` believes whoever answers in the place of such an origin, and lets them read and change everything"""

    hostnames: tuple[str, ...] = ()
    """for `tls` and `http`: its public names; `*.` for one label"""

    prefixes: tuple[str, ...] = ()
    """for `http`: beginnings of paths at the gateway's own name, as `/node`; the origin gets what comes behind"""

    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """for `tcp` and `udp`: its public port; 0: the gateway's choice"""

    tls: Literal["passthrough", "terminate"] = "passthrough"
    """for `tls`: where the visitors' TLS ends, origin or gateway"""

    proxyProtocol: Literal["none", "v1", "v2"] | None = None
    """
    how the origin is told who comes; by itself `v2` for TLS that goes through, else `none`; for `udp`, `v2` alone,
    before each datagram
    """

    connectTimeout: Seconds = 10.0
    """seconds to reach the origin"""

    health: HealthSection | None = None
    """how to see whether the origin works"""

    http: HttpSection | None = None
    """for `http`: what the gateway does with requests and responses"""


class LimitsSection(Section, frozen=True):
    """How much, and how long."""

    streams: Annotated[int, Meta(ge=1, le=65535)] = 4096
    """visitors at once"""

    memory: Count = 256
    """MiB that may be held for those who do not read, and as many for windows"""

    idleTimeout: Annotated[float, Meta(ge=0, le=1e9)] = 86400.0
    """seconds without a byte after which a visit ends; 0: never"""

    udpIdleTimeout: Seconds = DATAGRAM_IDLE
    """the same for a visit by UDP, of which nobody says that it is over; the gateway has such a time, too"""

    pingInterval: Annotated[float, Meta(ge=1, le=3600)] = 15.0
    """seconds between pings, as long as the gateway has said nothing else"""

    drain: Annotated[float, Meta(ge=0, le=86400)] = 30.0
    """seconds that visits have to end at SIGTERM"""


class AgentConfig(Section, frozen=True):
    """The whole file."""

    gateway: GatewaySection
    service: tuple[ServiceSection, ...] = ()
    targets: tuple[str, ...] = ()
    """[rules](target-rules.md) for what may be reached through the agent; without any, nothing"""

    limits: LimitsSection = LimitsSection()


@dataclass(frozen=True, slots=True)
class AgentPlan:
    """
    What an agent works with.

    @ivar register: all of the first message but the credential.
    @ivar origins: by the services' keys.
    @ivar health: the same, of those that are looked at.
    @ivar policy: for streams to targets; C{None} takes none.
    @ivar credential: the section that says where the credential is.
    """

    link: GatewayLink
    register: Register
    origins: Mapping[str, Origin]
    health: Mapping[str, HealthSection]
    policy: ITargetPolicy | None
    limits: LimitsSection
    credential: GatewaySection


def defaultName() -> str:
    """The machine's name as that of an agent: one label."""
    label = re.sub("[^a-z0-9]+", "-", socket.gethostname().partition(".")[0].lower())
    return label[:63].strip("-") or "agent"


def _usesProxy(section: ServiceSection) -> bool:
    return section.proxyProtocol not in (None, "none")


def wireService(section: ServiceSection) -> Service:
    """
    @raise ValueError: the gateway would refuse it.
    """
    return checkedService(
        Service(
            key=section.key,
            kind=section.kind,
            hostnames=tuple(name.lower().removesuffix(".") for name in section.hostnames),
            port=section.port,
            tls=section.tls,
            prefixes=section.prefixes,
            http=httpOptions(section.http, proxyPerVisitor=section.kind == "http" and _usesProxy(section)),
        )
    )


def checkedService(service: Service) -> Service:
    """
    @raise ValueError: the gateway would refuse it.
    """
    _checked(Register(version=1, agent="a", services=(service,)))
    return service


def originOf(section: ServiceSection) -> Origin:
    """
    @raise ValueError: it can be none.
    """
    proxyProtocol = section.proxyProtocol
    if proxyProtocol is None:
        proxyProtocol = "v2" if section.kind == "tls" and section.tls == "passthrough" else "none"
    if section.kind == "udp" and (proxyProtocol == "v1" or section.health is not None):
        raise ValueError("udp knows no health check, and of the PROXY protocol version 2 alone")
    if section.health is not None and not re.fullmatch("/[!-~]*", section.health.path):
        raise ValueError(f"health: {section.health.path!a:.80} is not a path, which begins with a slash")
    address, isTLS = parseOriginURL(section.origin, section.kind)
    if isTLS and section.kind == "tls" and section.tls == "passthrough":
        raise ValueError("the visitors' TLS goes through to the origin: write HOST:PORT, without tls://")
    protocol = "http/1.1" if section.http is None else section.http.protocol
    if protocol == "h2c" and isTLS:
        raise ValueError("http.protocol: h2c is HTTP/2 without TLS, and the origin is one with https://")
    if protocol == "h2c" and section.health is not None and section.health.kind == "http":
        raise ValueError("health: an origin that speaks h2c is looked at by tcp, not by http")
    return Origin(
        kind=section.kind,
        address=address,
        proxyProtocol=proxyProtocol,
        connectTimeout=section.connectTimeout,
        tls=_originTLS(section, address if isTLS else None),
    )


def _originTLS(section: ServiceSection, address: Target | str | None) -> OriginTLS | None:
    """
    @param address: of an origin that speaks TLS.
    """
    if isinstance(address, Target):
        return originTLS(address, section.originName, section.originCa, section.originPin, verify=section.originVerify)
    keys = {
        "origin-name": section.originName,
        "origin-ca": section.originCa,
        "origin-pin": section.originPin,
        "origin-verify": not section.originVerify,
    }
    if key := next((key for key, isThere in keys.items() if isThere), ""):
        raise ValueError(f"{key} is for an origin with https:// or tls://")
    return None


def _checked(register: Register) -> None:
    """
    @raise ValueError: the gateway would refuse it; with a sentence that says why.
    """
    try:
        decode(encode(register).rstrip())
    except RemoteProtocolError as e:
        problem = e.details.removeprefix("The message cannot be read: ").removesuffix(".")
        match = re.search(r" - at `\$\.(services\[\d*\.*\]\.)?(\w+)(\[.*\])?`$", problem)
        if match and "of the right form" in problem and match[1] and match[2] in _FORMS:
            raise ValueError(_FORMS[match[2]]) from None
        raise ValueError(f"{problem[: match.start()]} ({match[2]})" if match else problem) from None
    except LocalProtocolError:
        raise ValueError("there are too many services, or too many names") from None


def agentPlan(config: AgentConfig, environ: Mapping[str, str]) -> AgentPlan:
    """
    @param environ: for the proxy.
    @raise ConfigurationError: something cannot be; the line names the key.
    """
    gateway = config.gateway
    try:
        link = gatewayLink(
            gateway.to,
            authorities=gateway.ca,
            pin=gateway.pin,
            certificate=gateway.certificate,
            key=gateway.key,
            proxy=gateway.proxy,
            environ=environ,
        )
    except ValueError as e:
        raise ConfigurationError(f"gateway.{e}") from None
    services, origins = [], {}
    for number, section in enumerate(config.service):
        try:
            services.append(wireService(section))
            origins[section.key] = originOf(section)
        except ValueError as e:
            raise ConfigurationError(f"service[{number}], {section.key!a:.70}: {e}") from None
    rules = []
    for number, line in enumerate(config.targets):
        try:
            rules.append(parseRuleLine(line))
        except ValueError as e:
            raise ConfigurationError(f"targets[{number}]: {e}") from None
    if rules and not any(rule.action == "allow" for rule in rules):
        raise ConfigurationError("targets: no rule allows anything, which is the same as no rules")
    try:
        register = Register(
            version=1,
            agent=gateway.name or defaultName(),
            replica=gateway.replica,
            software=f"txgateway/{__version__}",
            services=tuple(services),
            targets=bool(rules),
        )
        # The credential comes later, and may be as long as this.
        _checked(msgspec.structs.replace(register, credential=SecretCredential(secret="x" * CREDENTIAL_LIMIT)))
    except ValueError as e:
        raise ConfigurationError(f"gateway or service: {e}") from None
    if gateway.secretFile is not None and gateway.jwtFile is not None:
        raise ConfigurationError("gateway: secret-file and jwt-file are not both needed")
    policy = TargetPolicy(rules, strict=True) if rules else None
    health = {section.key: section.health for section in config.service if section.health is not None}
    return AgentPlan(link, register, origins, health, policy, config.limits, gateway)


def readCredential(section: GatewaySection, environ: Mapping[str, str]) -> Credential | None:
    """
    What proves the agent's name now.

    @return: C{None} when there is none, so that a client certificate has to do.
    @raise ConfigurationError: a file cannot be used.
    """
    if section.secretFile is not None:
        return SecretCredential(secret=readCredentialFile("gateway.secret-file", section.secretFile))
    if section.jwtFile is not None:
        return JwtCredential(jwt=readCredentialFile("gateway.jwt-file", section.jwtFile))
    if secret := environ.get(SECRET, "").strip():
        return SecretCredential(secret=secret)
    if token := environ.get(JWT, "").strip():
        return JwtCredential(jwt=token)
    return None


def checkPlan(plan: AgentPlan, environ: Mapping[str, str]) -> None:
    """
    Find out at the start, and not with the first session, that none can come about.

    @raise ConfigurationError: nothing proves the agent's name, or a file that is to prove something cannot be read.
    """
    if readCredential(plan.credential, environ) is None and plan.credential.certificate is None:
        raise ConfigurationError(
            f"gateway: nothing proves the agent's name: set secret-file, jwt-file, certificate, {SECRET} or {JWT}"
        )
    try:
        checkFiles(plan.link)
    except ValueError as e:
        raise ConfigurationError(f"gateway.{e}") from None
