"""
From the words of C{gateway.toml} to the values that the parts of a gateway are made of.

Whatever is wrong is found here, before anything listens, and named by its key::

    settings = readGatewaySettings("gateway.toml", os.environ)     # or ConfigurationError, in one line
    settings.agents         # AgentEntry, AgentEntry...

Keys and files that are read here are those that SIGHUP reads again.

Length: one key after another, each with what can be wrong with it.
"""

__all__ = ["CertificateFilesPaths", "DoorSettings", "GatewaySettings", "Listen", "parseListen", "readGatewaySettings"]

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.domain.access import EVERYBODY, AccessRules
from gateway.domain.addresses import IPNetwork, normaliseHost, parseAddress, parsePort
from gateway.domain.agents import AgentEntry, JwtIssuer
from gateway.domain.gotunnel import GoTunnelTokens
from gateway.domain.grant import ANY_NAME, ANY_PREFIX, Grant
from gateway.domain.httppolicy import HttpDefaults
from gateway.domain.pipegate import PipeGateToken, parseTokens
from gateway.domain.registry import PortRules
from gateway.domain.rules import Rule, parseRuleLine
from gateway.domain.tokens import hashToken
from gateway.net.httpsettings import HttpSettings
from gateway.service.configuration import ConfigurationError, namingFile, readConfiguration
from gateway.service.pipegate.jsonrequest import JsonLimits
from gateway.service.server.config import (
    AgentEntrySection,
    DoorSection,
    GatewayConfig,
    GoTunnelSection,
    JwtSection,
    NetworkRelaySection,
    PortsSection,
)
from gateway.wire.http2budget import Http2Limits
from gateway.wire.httpoptions import Prefix

HTTPS = 443
"""The port of TLS where an endpoint string does not show it."""

_HMAC = ("HS256", "HS384", "HS512")
_PUBLIC = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA")
_MIN_SECRET = 32
_MAX_KEY_FILE = 64 * 1024
_MAX_TOKENS_FILE = 4 * 1024 * 1024

_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PLAIN = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9.]+|localhost|\*|):(?P<port>[0-9]{1,5})")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listen:
    """
    Where to listen.

    @ivar text: as it was written.
    @ivar host: an address; C{None} for an endpoint string. Empty is every address.
    """

    text: str
    host: str | None
    port: int = 0

    @property
    def isLoopback(self) -> bool:
        """Whether only this machine can reach it, as far as one can tell."""
        if self.host is None:
            return bool(re.match(r"unix:|tcp6?:.*\binterface=(127\.|localhost|\\:\\:1\b)", self.text))
        address = parseAddress(self.host)
        return self.host == "localhost" or (address is not None and address.is_loopback)


def parseListen(text: str) -> Listen:
    """
    @param text: an address and a port, or an endpoint string.
    @raise ValueError: it is neither.
    """
    if (match := _PLAIN.fullmatch(text)) is None:
        if re.match(r"[A-Za-z0-9_-]+:", text):
            return Listen(text, None)
        raise ValueError(f"{text!a:.60} is neither ADDRESS:PORT nor an endpoint string")
    host = match["host"].strip("[]")
    if host not in ("", "*", "localhost") and parseAddress(host) is None:
        raise ValueError(f"{host!a:.60} is not an address")
    port = int(match["port"])
    if port > 65535:
        raise ValueError(f"{port} is not a port")
    return Listen(text, "" if host == "*" else host, port)


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """
    Who may come to a door, and who may speak for them.

    @ivar access: by the visitor's own address.
    @ivar proxies: senders of PROXY headers.
    """

    access: AccessRules = EVERYBODY
    proxies: tuple[IPNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class CertificateFilesPaths:
    """
    A certificate.

    @ivar hostnames: in lower case; may be wildcards.
    """

    hostnames: tuple[str, ...]
    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class GoTunnelAgents:
    """
    Agents of go-tunnel's.

    @ivar tokens: what proves them.
    @ivar grant: the names that they may have.
    """

    tokens: GoTunnelTokens = field(repr=False)
    grant: Grant


@dataclass(frozen=True, slots=True)
class NetworkRelaySettings:
    """
    A network relay.

    @ivar credentialsFile: its path.
    @ivar proxies: whose C{X-Forwarded-For} is believed.
    @ivar key: that names the file, for errors.
    """

    credentialsFile: str
    proxies: tuple[IPNetwork, ...]
    key: str = "networkrelay.credentials-file"


@dataclass(frozen=True, slots=True)
class PipeGateClients:
    """
    Clients of PipeGate's.

    @ivar tokens: that are good.
    @ivar share: whether clients of one id share its visitors.
    @ivar domain: that each client has a name below; empty: they have none.
    @ivar json: of those that speak PipeGate's own dialect.
    """

    tokens: tuple[PipeGateToken, ...] = field(repr=False)
    share: bool = False
    domain: str = ""
    json: JsonLimits = field(default_factory=JsonLimits)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """
    All that a gateway is told.

    @ivar config: as it was read.
    @ivar publicHost: normalised; may be empty.
    @ivar goTunnel: C{None}: agents of go-tunnel's are not taken.
    @ivar networkRelay: C{None}: those of http-network-relay's are not taken.
    @ivar pipeGate: C{None}: those of PipeGate's are not taken.
    @ivar trustedProxies: fronts that speak HTTP, and for others.
    """

    config: GatewayConfig = field(repr=False)
    publicHost: str
    tls: DoorSettings
    http: DoorSettings
    ports: DoorSettings
    portRules: PortRules
    agents: tuple[AgentEntry, ...] = field(repr=False)
    goTunnel: GoTunnelAgents | None
    networkRelay: NetworkRelaySettings | None
    pipeGate: PipeGateClients | None
    certificates: tuple[CertificateFilesPaths, ...]
    tlsListen: tuple[Listen, ...]
    httpListen: tuple[Listen, ...]
    agentsListen: tuple[Listen, ...]
    plainListen: tuple[Listen, ...]
    managementListen: tuple[Listen, ...]
    networkRelayListen: tuple[Listen, ...]
    trustedProxies: tuple[IPNetwork, ...]

    @property
    def tlsPort(self) -> int:
        """The port where visitors find TLS, as far as it is known, here or at a front; 0: there is none."""
        if not self.tlsListen:
            return HTTPS if self.trustedProxies else 0
        return self.tlsListen[0].port or HTTPS

    def isCertified(self, name: str) -> bool:
        """Whether there is a certificate for a name, or for all that a wildcard stands for."""
        return any({name, f"*.{name.partition('.')[2]}"} & set(each.hostnames) for each in self.certificates)

    @property
    def httpDefaults(self) -> HttpDefaults:
        """What is done with requests where a service says nothing."""
        http, limits = self.config.http, self.config.limits
        return HttpDefaults(http.httpsRedirect, http.hsts, self.tlsPort, limits.bodyBytes, limits.routeRequests)

    @property
    def httpSettings(self) -> HttpSettings:
        """The limits of HTTP connections."""
        limits = self.config.limits
        return HttpSettings(
            headLimit=limits.headBytes,
            headFields=limits.headFields,
            headTimeout=limits.headTimeout,
            idleTimeout=limits.keepAliveTimeout,
            bodyRate=limits.bodyRate,
            bodyGrace=limits.bodyGrace,
            takeTimeout=limits.takeTimeout,
            takeLimit=limits.takeLimit,
            requests=limits.requestsPerConnection,
            originHeadLimit=limits.originHeadBytes,
            originHeadTimeout=limits.originTimeout,
            originIdle=limits.originIdleConnections,
            originIdleTimeout=limits.originIdleTimeout,
            dialTimeout=limits.connectTimeout,
            http2=Http2Limits(streams=limits.h2Streams, resets=limits.h2Resets, controls=limits.h2Controls),
            backlog=limits.h2Backlog,
        )


def readGatewaySettings(path: str | None, environ: Mapping[str, str]) -> GatewaySettings:
    """
    @param path: of C{gateway.toml}; C{None}: the environment alone.
    @raise ConfigurationError: in one line that names the file and the key.
    """
    config = readConfiguration(path, GatewayConfig, environ=environ)
    with namingFile(path):
        return _settings(config)


def _at(key: str, convert: Callable[[], T]) -> T:
    """What a conversion returns; what is wrong is told with the key."""
    try:
        return convert()
    except ValueError as e:
        text = str(e).rstrip(".")
        raise ConfigurationError(f"{key}: {text[:1].lower() + text[1:]}") from None


def _each(key: str, convert: Callable[[str], T], texts: Iterable[str]) -> tuple[T, ...]:
    return tuple(_at(f"{key}[{index}]", partial(convert, text)) for index, text in enumerate(texts))


def _settings(config: GatewayConfig) -> GatewaySettings:
    settings = GatewaySettings(
        config,
        _at("gateway.public-host", lambda: _publicHost(config.gateway.publicHost)),
        _door("tls", config.tls),
        _door("http", config.http),
        _door("ports", config.ports),
        PortRules(config.ports.privileged, _at("ports.automatic", lambda: _range(config.ports.automatic))),
        _agents(config),
        _goTunnel(config.gotunnel),
        _networkRelay(config.networkrelay),
        _pipeGate(config),
        tuple(
            CertificateFilesPaths(
                _each(f"certificate[{index}].hostnames", _name, each.hostnames), each.certificate, each.key
            )
            for index, each in enumerate(config.certificate)
        ),
        _each("tls.listen", parseListen, config.tls.listen),
        _each("http.listen", parseListen, config.http.listen),
        _each("agents.listen", parseListen, config.agents.listen),
        _each("agents.plain-listen", parseListen, config.agents.plainListen),
        _each("management.listen", parseListen, config.management.listen),
        _each("networkrelay.listen", parseListen, config.networkrelay.listen),
        _each("http.trusted-proxies", _network, config.http.trustedProxies),
    )
    _each("ports.interfaces", _interface, config.ports.interfaces)
    _check(settings)
    return settings


def _check(settings: GatewaySettings) -> None:
    """What two keys together get wrong."""
    config = settings.config
    for index, each in enumerate(settings.plainListen):
        if not each.isLoopback:
            raise ConfigurationError(
                f"agents.plain-listen[{index}]: without TLS agents are taken on loopback alone, not on {each.text}"
            )
    if config.management.passwordHash:
        _at("management.password-hash", lambda: _hash(config.management.passwordHash))
    for index, each in enumerate(settings.managementListen):
        if not (each.isLoopback or config.management.passwordHash):
            raise ConfigurationError(
                f"management.listen[{index}]: {each.text} is not loopback, which needs management.password-hash"
            )
    withoutTLS = settings.plainListen or settings.networkRelayListen
    if not (settings.tlsListen or settings.agentsListen or withoutTLS):
        raise ConfigurationError("tls.listen: no agent can attach: set it, agents.listen or agents.plain-listen")
    if settings.goTunnel is not None and not settings.agentsListen:
        raise ConfigurationError("gotunnel.jwt-secret-file: agents of go-tunnel's come to agents.listen: set it")
    if config.http.httpsRedirect and not settings.tlsPort:
        details = "there is no TLS to send visitors to: set tls.listen, or http.trusted-proxies if it is in front"
        raise ConfigurationError(f"http.https-redirect: {details}")
    if settings.networkRelayListen and settings.networkRelay is None:
        raise ConfigurationError("networkrelay.credentials-file: it is not said who may come to networkrelay.listen")
    if not (settings.certificates or withoutTLS):
        raise ConfigurationError("certificate: no agent can attach by TLS without one")


def _publicHost(text: str) -> str:
    try:
        return normaliseHost(text) if text else ""
    except ValueError:
        if re.search("[/:]", text):
            raise ValueError(f"{text!a:.60} is no name: leave out scheme, port and path") from None
        raise


def _door(key: str, section: DoorSection | PortsSection) -> DoorSettings:
    return DoorSettings(
        AccessRules(tuple(r for rules in _each(f"{key}.access", _accessRule, section.access) for r in rules.rules)),
        _each(f"{key}.proxy-protocol-from", _network, section.proxyProtocolFrom),
    )


def _network(text: str) -> IPNetwork:
    return ip_network(text)


def _accessRule(line: str) -> AccessRules:
    return AccessRules.parse([line])


def _interface(text: str) -> str:
    if parseAddress(text) is None:
        raise ValueError(f"{text!a:.60} is not an address")
    return text


def _name(text: str) -> str:
    """A host name, a wildcard for one label."""
    host = normaliseHost(text.removeprefix("*."))
    if parseAddress(host) is not None and text.startswith("*."):
        raise ValueError(f"{text!a:.60} is not a name")
    return f"*.{host}" if text.startswith("*.") else host


def _grantedName(text: str) -> str:
    return text if text == ANY_NAME else _name(text)


def _grantedPrefix(text: str) -> str:
    try:
        if text != ANY_PREFIX:
            msgspec.convert(text.removesuffix("/*"), Prefix)
    except msgspec.ValidationError:
        raise ValueError(f"{text!a:.60} is neither a path, as /node, nor /node/* or *") from None
    return text


def _nameRule(line: str) -> Rule:
    rule = parseRuleLine(line)
    if not isinstance(rule.pattern, str):
        raise ValueError(f"{line!a:.60} is about addresses, and these are names alone")
    return rule


def _range(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    ports = parsePort(low), parsePort(high if dash else low)
    if ports[0] > ports[1]:
        raise ValueError(f"the range {text} ends before it begins")
    return ports


# -- Agents


def _agents(config: GatewayConfig) -> tuple[AgentEntry, ...]:
    entries: dict[str, AgentEntry] = {}
    for index, section in enumerate(config.agent):
        key = f"agent[{index}]"
        entry = _agent(key, section, config.agents.clientCa)
        if entry.name in entries:
            raise ConfigurationError(f"{key}.name: there are two agents {entry.name}")
        entries[entry.name] = entry
    return tuple(entries.values())


def _agent(key: str, section: AgentEntrySection, clientCa: str) -> AgentEntry:
    if section.name != ANY_NAME and not _LABEL.fullmatch(section.name):
        raise ConfigurationError(f"{key}.name: {section.name!a:.60} is neither a label nor *")
    secrets = [_at(f"{key}.secret-hash", lambda: _hash(section.secretHash))] if section.secretHash else []
    secrets += _each(f"{key}.secret-hashes", _hash, section.secretHashes)
    if section.secretFile:
        secret = _readFile(f"{key}.secret-file", section.secretFile)
        secrets.append(hashToken(secret.decode("utf-8", "replace").strip()))
    certificates = _each(f"{key}.certificates", _fingerprint, section.certificates)
    if certificates and not clientCa:
        raise ConfigurationError(f"{key}.certificates: client certificates are not asked for without agents.client-ca")
    issuer = None if section.jwt is None else _issuer(f"{key}.jwt", section.jwt)
    if not (secrets or certificates or issuer):
        raise ConfigurationError(f"{key}: nothing proves this agent: give it a secret-hash, certificates or jwt")
    limits = section.limits
    grant = Grant(
        _each(f"{key}.hostnames", _grantedName, section.hostnames),
        _each(f"{key}.ports", _range, section.ports),
        limits.sessions,
        limits.services,
        limits.streams,
        limits.newPerSecond,
        limits.bytesPerSecond,
        _each(f"{key}.targets", _nameRule, section.targets),
        _each(f"{key}.prefixes", _grantedPrefix, section.prefixes),
    )
    expires = None if section.expires is None else section.expires.timestamp()
    return AgentEntry(section.name, grant, tuple(secrets), certificates, issuer, expires)


def _goTunnel(section: GoTunnelSection) -> GoTunnelAgents | None:
    if not section.jwtSecretFile:
        return None
    key = "gotunnel.jwt-secret-file"
    secret = _readFile(key, section.jwtSecretFile)
    return GoTunnelAgents(
        _at(key, lambda: GoTunnelTokens(secret.decode().strip())),
        Grant(hostnames=_each("gotunnel.hostnames", _grantedName, section.hostnames)),
    )


def _networkRelay(section: NetworkRelaySection) -> NetworkRelaySettings | None:
    proxies = _each("networkrelay.trusted-proxies", _network, section.trustedProxies)
    return NetworkRelaySettings(section.credentialsFile, proxies) if section.credentialsFile else None


def _pipeGate(config: GatewayConfig) -> PipeGateClients | None:
    section, key = config.pipegate, "pipegate.tokens-file"
    if not section.tokensFile:
        return None
    content = _readFile(key, section.tokensFile, _MAX_TOKENS_FILE).decode("utf-8", "replace")
    limits = JsonLimits(timeout=config.limits.originTimeout)
    return PipeGateClients(_at(key, lambda: parseTokens(content)), section.share, json=limits)


def _hash(text: str) -> str:
    if not _HASH.fullmatch(text):
        raise ValueError("this is not sha256: and 64 hexadecimal digits 0-9a-f, as gateway secret prints it")
    return text


def _fingerprint(text: str) -> str:
    found = text.replace(":", "").lower()
    if not _FINGERPRINT.fullmatch(found):
        raise ValueError("this is not a SHA-256 fingerprint of 64 hexadecimal digits")
    return found


def _issuer(key: str, section: JwtSection) -> JwtIssuer:
    algorithms = section.algorithms
    if not (set(algorithms) <= set(_HMAC) or set(algorithms) <= set(_PUBLIC)):
        # With both, a token that is signed with the public key as an HMAC secret would be good.
        raise ConfigurationError(f"{key}.algorithms: take some of {', '.join(_HMAC)}, or some of {', '.join(_PUBLIC)}")
    content = _readFile(f"{key}.key-file", section.keyFile)
    if set(algorithms) <= set(_HMAC):
        content = content.strip()
        if len(content) < _MIN_SECRET:
            raise ConfigurationError(f"{key}.key-file: {section.keyFile}: a secret has at least {_MIN_SECRET} bytes")
        if content.startswith(b"-----BEGIN"):
            raise ConfigurationError(f"{key}.key-file: {section.keyFile}: this is a PEM file, and no secret for HMAC")
    elif not content.startswith(b"-----BEGIN PUBLIC KEY"):
        raise ConfigurationError(f"{key}.key-file: {section.keyFile}: not a public key in PEM")
    return JwtIssuer(content, algorithms, section.issuer or None, section.audience or None)


def _readFile(key: str, path: str, limit: int = _MAX_KEY_FILE) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(limit)
    except OSError as e:
        raise ConfigurationError(f"{key}: {path}: {e.strerror}") from None
    if not content.strip():
        raise ConfigurationError(f"{key}: {path}: empty")
    return content
