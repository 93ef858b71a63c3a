"""
C{tunnel:} as an endpoint string: to be reached through a gateway, and to reach what others serve there::

    serverFromString(reactor, "tunnel:app.example.com:via=wss\\\\://gw.example/agent:credentials=secret.txt").listen(site)
    clientFromString(reactor, "tunnel:ssh.box.agent:via=wss\\\\://gw.example/agent:credentials=secret.txt").connect(ssh)

Whatever a process publishes, or connects to, with the same options shares one session. C{docs/reference/endpoints.md}
tells people what they can write.
"""

__all__ = ["TunnelClientEndpoint", "TunnelServerEndpoint", "tunnelClient", "tunnelServer"]

import os
import re
from typing import Any, Literal, cast

import msgspec
from twisted.internet.defer import CancelledError, Deferred, execute
from twisted.internet.interfaces import IListeningPort, IProtocol, IProtocolFactory, IStreamServerEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.domain.addresses import normaliseHost, parsePort
from gateway.net.dial import DialFailed, DialFailure
from gateway.net.interfaces import IEarlyData, IEarlyEndpoint
from gateway.service.agent.carrier import carrierEndpoint
from gateway.service.agent.config import (
    AgentConfig,
    AgentPlan,
    GatewaySection,
    agentPlan,
    checkedService,
    readCredential,
)
from gateway.service.agent.origins import ServiceKind
from gateway.service.agent.tunnelclient import ClientTunnel
from gateway.service.agent.tunnelserver import DRAIN, ServerTunnel
from gateway.service.configuration import ConfigurationError
from gateway.wire.agentcontrol import Register, Service
from gateway.wire.httpoptions import HttpOptions
from gateway.wire.preamble import Target

TIMEOUT = 20.0
"""Seconds to connect to what is behind a gateway."""

_OPTIONS = {
    "via": "to",
    "credentials": "secretFile",
    "jwt": "jwtFile",
    "agent": "name",
    "ca": "ca",
    "pin": "pin",
    "certificate": "certificate",
    "key": "key",
    "proxy": "proxy",
}
"""The options of either kind, and what they are called in C{agent.toml}."""


_servers: dict[tuple[Any, GatewaySection], ServerTunnel] = {}
_clients: dict[tuple[Any, GatewaySection], ClientTunnel] = {}
"""
By reactor and options. Endpoint strings have nothing else in common, and yet have to share: two sessions of the same
name would evict each other.
"""


def _introduction(plan: AgentPlan) -> Register:
    try:
        credential = readCredential(plan.credential, os.environ)
    except ConfigurationError as e:
        raise ConfigurationError(_inTheirWords(e)) from None
    return msgspec.structs.replace(plan.register, credential=credential)


@implementer(IEarlyEndpoint)
class TunnelClientEndpoint:
    """
    Connects to what an agent serves.

    @param gateway: where, and who we are.
    @param target: a name of the gateway's: C{SERVICE.AGENT.agent}, or a public one.
    @raise ConfigurationError: it cannot be.
    """

    def __init__(self, reactor: Any, gateway: GatewaySection, target: Target, *, timeout: float = TIMEOUT) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._target = target
        self._timeout = timeout
        self._plan = agentPlan(AgentConfig(gateway=gateway), os.environ)

    def _tunnel(self) -> ClientTunnel:
        key = self._reactor, self._gateway
        tunnel = _clients.get(key)
        if tunnel is None:
            carrier = carrierEndpoint(self._reactor, self._plan.link)
            tunnel = _clients[key] = ClientTunnel(self._reactor, carrier, lambda: _introduction(self._plan))
        return tunnel

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: may be cancelled; fails with L{DialFailed}.
        """
        return self._connect(factory, None)

    def connectEarly(self, factory: IProtocolFactory, early: IEarlyData) -> Deferred[IProtocol]:
        """The same, and what is sent meanwhile leaves at once."""
        return self._connect(factory, early)

    def _connect(self, factory: IProtocolFactory, early: IEarlyData | None) -> Deferred[IProtocol]:
        connecting = self._tunnel().connect(self._target, factory, early)
        return connecting.addTimeout(self._timeout, self._reactor, onTimeoutCancel=_tooSlow)


def _tooSlow(result: IProtocol | Failure, timeout: float) -> IProtocol | Failure:
    if isinstance(result, Failure) and result.check(CancelledError, DialFailed):
        raise DialFailed(DialFailure.TIMEOUT, f"There was no answer within {timeout:g} seconds.")
    return result


@implementer(IStreamServerEndpoint)
class TunnelServerEndpoint:
    """
    Publishes a service.

    @param gateway: where, and who we are.
    @param drain: seconds that visitors have to end when it is stopped.
    @raise ConfigurationError: it cannot be.
    """

    def __init__(self, reactor: Any, gateway: GatewaySection, service: Service, *, drain: float = DRAIN) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._service = service
        self._drain = drain
        self._plan = agentPlan(AgentConfig(gateway=gateway), os.environ)

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        @return: fires at once, as the gateway may come later. Fails with C{CannotListenError} when the process has
            published the same already.
        """
        return execute(self._listen, factory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        key = self._reactor, self._gateway
        tunnel = _servers.get(key)
        if tunnel is None:
            tunnel = _servers[key] = ServerTunnel(
                self._reactor,
                carrierEndpoint(self._reactor, self._plan.link),
                lambda: _introduction(self._plan),
                gateway=self._plan.link.to,
                ended=lambda: _servers.pop(key),
            )
        return tunnel.publish(self._service, factory, drain=self._drain)


def tunnelClient(reactor: Any, *arguments: str, **options: str) -> TunnelClientEndpoint:
    """
    C{tunnel:NAME:via=URL} to connect to.

    @raise ValueError: in one line.
    """
    if len(arguments) != 1:
        raise ValueError("write tunnel:NAME:via=wss\\://HOST/PATH, and a port as port=22")
    port, timeout = options.pop("port", None), _seconds("timeout", options.pop("timeout", str(TIMEOUT)))
    target = Target(normaliseHost(arguments[0]), 0 if port is None else parsePort(port))
    gateway = _gateway(options)
    try:
        return TunnelClientEndpoint(reactor, gateway, target, timeout=timeout)
    except ConfigurationError as e:
        raise ValueError(_inTheirWords(e)) from None


def tunnelServer(reactor: Any, *arguments: str, **options: str) -> TunnelServerEndpoint:
    """
    C{tunnel:NAME:via=URL} or C{tunnel:tcp:PORT:via=URL} to listen on.

    @raise ValueError: in one line.
    """
    service = _service(arguments, options.pop("service", None), options.pop("kind", None), options.pop("tls", None))
    drain, replica = _seconds("drain", options.pop("drain", str(DRAIN))), options.pop("replica", "")
    gateway = msgspec.structs.replace(_gateway(options), replica=replica)
    try:
        return TunnelServerEndpoint(reactor, gateway, service, drain=drain)
    except ConfigurationError as e:
        raise ValueError(_inTheirWords(e)) from None


def _service(arguments: tuple[str, ...], key: str | None, kind: str | None, tls: str | None) -> Service:
    match arguments:
        case (names,):
            if kind not in (None, "http", "tls") or tls not in (None, "passthrough", "terminate"):
                raise ValueError("kind: http or tls; tls: passthrough or terminate")
            hostnames = tuple(name.lower().removesuffix(".") for name in names.split(","))
            key = key or re.sub("[^a-z0-9]+", "-", names.lower())[:63].strip("-") or "any"
            if tls is not None and kind != "tls":
                raise ValueError("tls: it goes with kind=tls")
            kind = kind or "http"
            return checkedService(
                Service(
                    key=key,
                    kind=cast(ServiceKind, kind),
                    hostnames=hostnames,
                    tls=cast(Literal["passthrough", "terminate"], tls or "passthrough"),
                    # The peer of a connection is a visitor, so that one is never used for two.
                    http=HttpOptions(proxyPerVisitor=True) if kind == "http" else None,
                )
            )
        case ("tcp", port):
            if (kind, tls) != (None, None):
                raise ValueError("kind and tls are for names")
            number = 0 if port == "0" else parsePort(port)
            return checkedService(Service(key=key or f"tcp-{number}", kind="tcp", port=number))
        case _:
            raise ValueError("write tunnel:NAME:via=wss\\://HOST/PATH or tunnel:tcp:PORT:via=wss\\://HOST/PATH")


def _gateway(options: dict[str, str]) -> GatewaySection:
    unknown = options.keys() - _OPTIONS.keys()
    if unknown:
        raise ValueError(f"there is no option {min(unknown)!a}")
    if "via" not in options:
        raise ValueError("via: say where the gateway is, as in via=wss\\://gw.example/agent")
    return GatewaySection(**{_OPTIONS[name]: value for name, value in options.items()})


def _inTheirWords(error: ConfigurationError) -> str:
    """An error about options that are called as they are in an endpoint string."""
    text = re.sub("^gateway[.:] ?", "", str(error))
    for ours, theirs in (("to:", "via:"), ("gateway or service:", "agent:")):
        text = theirs + text.removeprefix(ours) if text.startswith(ours) else text
    return text.replace("secret-file", "credentials").replace("jwt-file", "jwt")


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
        if not 0 <= seconds <= 86400:
            raise ValueError
    except ValueError:
        raise ValueError(f"{name}: {text!a} is not a number of seconds") from None
    return seconds
