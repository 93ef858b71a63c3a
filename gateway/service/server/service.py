"""
The gateway as one service: settings to doors, ports, signals::

    settings = readGatewaySettings("gateway.toml", os.environ)
    GatewayService(reactor, settings, reread).setServiceParent(application)

Length: everything that one process has, put together in one place.
"""

__all__ = ["GatewayService", "checkFiles"]

import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python import usage

from gateway.domain.limits import Bans
from gateway.domain.pipegate import PipeGateAuthority, PipeGateTokens
from gateway.domain.registry import Registry
from gateway.domain.routes import Place
from gateway.net.budget import StallBudget
from gateway.net.tls import CertificateError
from gateway.net.websocket import WebSocketServerFactory
from gateway.service.configuration import ConfigurationError
from gateway.service.descriptors import raiseDescriptorLimit
from gateway.service.draining import Draining
from gateway.service.gotunnel.door import GoTunnelDialect
from gateway.service.gotunnel.session import GoTunnelSettings
from gateway.service.listening import DoorFactory, ListenerService, describedEndpoint, serverEndpoint
from gateway.service.metrics import Metrics
from gateway.service.networkrelay.door import RelayDoorSettings
from gateway.service.networkrelay.relay import CredentialsFile, NetworkRelay
from gateway.service.pipegate.dialect import PipeGateDialect
from gateway.service.proxies import LOOPBACK
from gateway.service.server.accesslog import AccessLog, checkAccessLog
from gateway.service.server.agentdoor import AgentDoor, AgentDoorSettings
from gateway.service.server.agentport import AgentPort
from gateway.service.server.arrivals import Arrivals
from gateway.service.server.certificates import Certificates
from gateway.service.server.clientstreams import ClientStreams
from gateway.service.server.dashboard import Dashboard
from gateway.service.server.destinations import Destinations
from gateway.service.server.httpdoor import HttpDoor
from gateway.service.server.partlimits import agentAdmission, muxSettings, relaySettings, routeLimits, visitorAdmission
from gateway.service.server.portdoors import IReactorPorts, PortDoors
from gateway.service.server.restarts import needRestart
from gateway.service.server.settings import GatewaySettings, Listen, PipeGateClients
from gateway.service.server.site import Site
from gateway.service.server.tlsdoor import TlsDoor, TlsDoorSettings
from gateway.service.server.visitors import Visitors
from gateway.service.tabby.options import TabbyOptions
from gateway.service.tabby.service import IReactor as IReactorTabby
from gateway.service.tabby.service import TabbyService
from gateway.service.tabby.service import checkFiles as checkTabbyFiles
from gateway.wire.networkrelay import AGENT_PATH, CLIENT_PATH
from gateway.wire.window import WindowBudget

CLOSE_TIMEOUT = 7.0
"""Seconds for agents and visitors to take the last that is said to them."""

PONG_DELAY = 5.0
"""Seconds after the next ping for an answer to the one before: with 15, the time of go-tunnel's own server."""

_MIB = 1024 * 1024


class IReactor(IReactorPorts, IReactorTabby):
    """What the service needs of a reactor."""


class GatewayService(MultiService):
    """
    A gateway with all its doors.

    @param reread: reads the settings again, for SIGHUP; raises L{ConfigurationError}.
    @ivar goTunnel: takes agents of go-tunnel's; C{None} where they are not taken.
    @ivar pipeGate: the same for clients of PipeGate's.
    @ivar agents: who is here.
    @ivar destinations: the names that lead to agents, for other doors of this process.
    @raise ConfigurationError: a file or endpoint that the settings name cannot be used.
    """

    _log = Logger()

    def __init__(self, reactor: IReactor, settings: GatewaySettings, reread: Callable[[], GatewaySettings]) -> None:
        super().__init__()
        self._reactor = reactor
        self._settings = settings
        self._reread = reread
        self._draining = Draining(reactor)
        self._listeners: list[ListenerService] = []
        self._publicListeners: list[ListenerService] = []
        self.metrics = Metrics()
        config, limits = settings.config, settings.config.limits
        self._certificates = _readCertificates(settings, reactor)
        self._accessLog = AccessLog(reactor)
        self._openAccessLog(settings)
        self._authority = PipeGateAuthority(PipeGateTokens(()))
        self._budget = StallBudget(limits.stallMemory * _MIB)
        self._windows = WindowBudget(limits.windowMemory * _MIB)
        self.visitors = Visitors(
            reactor,
            admission=visitorAdmission(limits, reactor.seconds()),
            datagramAdmission=visitorAdmission(limits, reactor.seconds()),
            settings=relaySettings(limits),
            limits=routeLimits(limits),
            budget=self._budget,
            metrics=self.metrics,
            datagramIdle=limits.udpIdleTimeout,
        )
        self._portDoors = PortDoors(
            reactor,
            self.visitors,
            interfaces=config.ports.interfaces,
            isOurs=self.isOurs,
            access=settings.ports.access,
            proxies=settings.ports.proxies,
            timeout=limits.helloTimeout,
            flows=limits.udpFlowsPerPort,
        )
        self.registry = Registry(settings.portRules, self._portDoors)
        self.destinations = Destinations(self.registry, reactor)
        self._clients = ClientStreams(self.visitors, self.destinations)
        bans = Bans(limits.banAfter or sys.maxsize, duration=limits.banSeconds)
        self.agents = AgentDoor(
            reactor,
            self.registry,
            self._authority,
            settings=AgentDoorSettings(
                registerTimeout=limits.registerTimeout,
                pingInterval=limits.pingInterval,
                mux=muxSettings(config),
                publicHost=settings.publicHost,
                tlsPort=_port(settings.tlsListen, 443),
                httpPort=_port(settings.httpListen, 80),
            ),
            admission=agentAdmission(limits, reactor.seconds(), bans),
            bans=bans,
            windows=self._windows,
            clientStreams=self._clients.factoryFor,
        )
        self.agents.isCertified = lambda name: self._settings.isCertified(name)
        self._networkRelay = self._makeNetworkRelay()
        self.pipeGate = self._makePipeGate()
        self.goTunnel = self._makeGoTunnel()
        self._authorise()
        self._openDoors()
        self._listenAtDoors()
        self._tabby = self._makeTabby()
        self._measure()

    def _makeNetworkRelay(self) -> NetworkRelay | None:
        settings, limits, reactor = self._settings.networkRelay, self._settings.config.limits, self._reactor
        if settings is None:
            return None
        relay = NetworkRelay(
            reactor,
            settings.credentialsFile,
            self.agents,
            self.visitors,
            self._portDoors,
            agentAdmission(limits, reactor.seconds(), self.agents.bans, limits.perAddress or None),
            RelayDoorSettings(headTimeout=limits.headTimeout, proxies=settings.proxies),
            self._authorise,
            key=settings.key,
        )
        relay.setServiceParent(self)
        return relay

    def _makePipeGate(self) -> PipeGateDialect | None:
        settings = self._settings
        if settings.pipeGate is None:
            return None
        return PipeGateDialect(
            self.agents,
            self._authority,
            settings.pipeGate.json,
            shares=settings.pipeGate.share,
            proxies=(*LOOPBACK, *settings.trustedProxies),
            handshakeTimeout=settings.config.limits.headTimeout,
        )

    def _makeGoTunnel(self) -> GoTunnelDialect | None:
        settings, interval = self._settings.goTunnel, self._settings.config.limits.pingInterval
        if settings is None:
            return None
        times = GoTunnelSettings(pingInterval=interval, pongTimeout=interval + PONG_DELAY)
        return GoTunnelDialect(self.agents, settings.tokens, settings.grant, times)

    def _makeSite(self) -> Site:
        config = self._settings.config
        path, timeout = config.agents.websocketPath, config.limits.headTimeout
        site = Site(self._reactor, self.agents, path=path, timeout=timeout)
        if self._networkRelay is not None:
            for path in (AGENT_PATH, CLIENT_PATH):
                site.add(path, self._networkRelay.door.arriveInside)
        if self.pipeGate is not None:
            site.addWhere(self.pipeGate.isSure, self.pipeGate.arrive)
        return site

    def _authorise(self) -> None:
        """Hold agents to what is known of them now. Who is in both files is who the configuration says."""
        relay = self._networkRelay
        self._authority.replaceEntries([*(() if relay is None else relay.entries), *self._settings.agents])
        theirs = self._settings.pipeGate or PipeGateClients(())
        self._authority.tokens, self._authority.domain = PipeGateTokens(theirs.tokens), theirs.domain
        self.agents.authorityChanged()
        if self.pipeGate is not None:
            self.pipeGate.tokensChanged()

    # -- Ports

    def _openDoors(self) -> None:
        settings, limits, reactor = self._settings, self._settings.config.limits, self._reactor
        self.http = HttpDoor(
            reactor,
            self.registry,
            self.visitors,
            self._makeSite(),
            publicHost=settings.publicHost,
            settings=settings.httpSettings,
            access=settings.http.access,
            trusted=settings.trustedProxies,
            defaults=settings.httpDefaults,
            accessLog=self._accessLog,
            perAddress=limits.requestsPerAddress,
        )
        self._tls = TlsDoor(
            reactor,
            self.registry,
            self.visitors,
            self._certificates,
            self.agents,
            self.http,
            settings=TlsDoorSettings(settings.publicHost, limits.helloTimeout, limits.handshakeTimeout),
            access=settings.tls.access,
        )
        self.agentPort = AgentPort(
            reactor,
            self.agents,
            self._certificates,
            publicHost=settings.publicHost,
            timeout=limits.handshakeTimeout,
            otherDialect=None if self.goTunnel is None else self.goTunnel.arrive,
        )
        self._dashboard = Dashboard(
            self.agents,
            self.metrics,
            clock=reactor,
            passwordHash=settings.config.management.passwordHash,
            hosts=settings.config.management.hosts,
        )

    def _listenAtDoors(self) -> None:
        settings, reactor, timeout = self._settings, self._reactor, self._settings.config.limits.helloTimeout

        def arrivals(arrive: Any, proxies: Sequence[Any] = ()) -> Arrivals:
            return Arrivals(arrive, clock=reactor, proxies=proxies, timeout=timeout)

        self._tlsArrivals = arrivals(self._tls.arrive, settings.tls.proxies)
        self._httpArrivals = arrivals(self.http.arrive, settings.http.proxies)
        public = self._publicListeners
        self._listen("tls.listen", settings.tlsListen, self._tlsArrivals, public)
        self._listen("http.listen", settings.httpListen, self._httpArrivals, public)
        self._listen("agents.listen", settings.agentsListen, arrivals(self.agentPort.arrive), public)
        plain = arrivals(lambda source: self.agents.arrive(source.host, "plain"))
        self._listen("agents.plain-listen", settings.plainListen, plain, public)
        if self._networkRelay is not None:
            self._listen("networkrelay.listen", settings.networkRelayListen, self._networkRelay.factory, public)
        management = DoorFactory(self._dashboard.arrive, WebSocketServerFactory(clock=reactor), clock=reactor)
        self._listen("management.listen", settings.managementListen, management, [])

    def _openAccessLog(self, settings: GatewaySettings) -> None:
        """Or open it again, as its name may be another file's by now."""
        http = settings.config.http
        try:
            self._accessLog.open(http.accessLog, http.accessLogFormat)
        except OSError as e:
            raise _noAccessLog(http.accessLog, e) from None

    def _makeTabby(self) -> TabbyService | None:
        try:
            options = _tabbyOptions(self._settings)
            if options is None:
                return None
            tabby = TabbyService(self._reactor, options, self.destinations, self._listeners, self._draining)
        except usage.UsageError as e:
            raise ConfigurationError(f"tabby.options: {e}") from None
        tabby.setServiceParent(self)
        return tabby

    def _listen(self, key: str, places: Iterable[Listen], factory: ServerFactory, group: list[ListenerService]) -> None:
        for place in places:
            try:
                if place.host is None:
                    endpoint = describedEndpoint(self._reactor, place.text)
                else:
                    endpoint = serverEndpoint(self._reactor, place.host, place.port)
            except ValueError as e:
                raise ConfigurationError(f"{key}: {e}") from None
            listener = ListenerService(endpoint, factory, key.partition(".")[0], place.text)
            listener.setServiceParent(self)
            self._listeners.append(listener)
            group.append(listener)

    def isOurs(self, place: Place) -> bool:
        """Whether the gateway itself has a name, a path or a port, and so no agent may."""
        if place.kind == "host":
            return place.name == self._settings.publicHost
        if place.kind == "prefix":
            return self.http.site.owns(str(place.name))
        listeners = [*self._listeners, *(self._tabby.listeners if self._tabby is not None else ())]
        return place.kind == "tcp" and any(
            getattr(listener.port.getHost(), "port", None) == place.name
            for listener in listeners
            if listener.port is not None
        )

    # -- Figures

    def _measure(self) -> None:
        metrics, agents = self.metrics, self.agents
        metrics.gauge("agents", "Sessions of agents.", lambda: len(agents.sessions))
        clients = () if self._networkRelay is None else self._networkRelay.clients
        metrics.gauge("access_clients", "Access clients of the network relay.", lambda: len(clients))
        metrics.gauge("routes", "Names and ports that are served.", lambda: len(self.registry.routes))
        metrics.gauge("visits", "Visitors with a route.", lambda: len(self.visitors.visits))
        metrics.gauge("stalled_bytes", "Bytes held for stalled readers, at most.", lambda: self._budget.used)
        metrics.gauge("window_bytes", "Bytes by which windows of streams have grown.", lambda: self._windows.used)

        def datagrams() -> Iterator[tuple[Sequence[str], float]]:
            for what, count in asdict(self._portDoors.datagrams).items():
                yield (what,), count

        metrics.totals("datagrams", "Datagrams at UDP ports, by what became of them.", "what", values=datagrams)

        def facts(value: str) -> Iterator[tuple[Sequence[str], float]]:
            for session in agents.sessions:
                each = session.facts()
                found = getattr(each, value)
                if found is not None:
                    yield (each.agent, each.replica), found

        metrics.gauges("agent_streams", "Visitors' streams open.", "agent", "replica", values=lambda: facts("streams"))
        metrics.gauges(
            "agent_last_ping_seconds", "Since its last pong.", "agent", "replica", values=lambda: facts("lastPing")
        )

    # -- Life

    def privilegedStartService(self) -> None:
        # A visitor takes one; an agent one; the rest is for listeners, log files and name lookups.
        raiseDescriptorLimit(self._settings.config.limits.undecided + 1024)
        super().privilegedStartService()

    def startService(self) -> None:
        self._previous = signal.signal(signal.SIGHUP, self._hungUp)
        super().startService()
        signal.signal(signal.SIGHUP, self._hungUp)  # again: that of a Tabby gateway is for it alone
        self._log.info(
            "the gateway is up, for {agents} agents", event="gateway.started", agents=len(self._settings.agents)
        )
        if self.goTunnel is not None and self.goTunnel.tokens.isGuessable:
            self._log.warn(
                "the secret of go-tunnel's agents is short enough to be guessed: take 32 characters or more",
                event="gotunnel.short-secret",
            )

    def _hungUp(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self.reload)

    def reload(self) -> None:
        """
        Take the agents, certificates, rules and limits of the configuration as it is now. When it cannot be used
        everything stays as it was. Sessions and visits that are still allowed go on.
        """
        try:
            settings = self._reread()
            self._certificates.replace(settings.certificates)
            self._openAccessLog(settings)
        except (ConfigurationError, CertificateError) as e:
            self._log.error("not reloaded: {problem}", event="gateway.reload-failed", problem=str(e))
            return
        before, self._settings = self._settings, settings
        if self._tabby is not None:
            self._tabby.reload()
        self._tls.access = settings.tls.access
        self._tlsArrivals.proxies = settings.tls.proxies
        self.http.access, self.http.trusted = settings.http.access, settings.trustedProxies
        self.http.use(settings.httpSettings)
        self.http.policies.defaults = settings.httpDefaults
        self.http.perAddress = settings.config.limits.requestsPerAddress
        self._httpArrivals.proxies = settings.http.proxies
        self._portDoors.access = settings.ports.access
        limits = settings.config.limits
        self.visitors.settings, self.visitors.datagramIdle = relaySettings(limits), limits.udpIdleTimeout
        self.visitors.limit(routeLimits(limits))
        self._budget.limit, self._windows.limit = limits.stallMemory * _MIB, limits.windowMemory * _MIB
        if self.goTunnel is not None and settings.goTunnel is not None:
            self.goTunnel.tokens, self.goTunnel.grant = settings.goTunnel.tokens, settings.goTunnel.grant
        self._authorise()
        if self._networkRelay is not None:
            self._networkRelay.reload()
        self._log.info(
            "reloaded: {agents} agents, {certificates} certificates",
            event="gateway.reloaded",
            agents=len(settings.agents),
            certificates=len(settings.certificates),
        )
        if keys := ", ".join(needRestart(before.config, settings.config)):
            self._log.warn("a change needs a restart: {keys}", event="gateway.needs-restart", keys=keys)

    def stopService(self) -> Deferred[None]:
        """Stop accepting, let visits end, then stop the rest."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        seconds = self._settings.config.gateway.drainSeconds
        with self._draining.hurriedBySignals():
            stopped: list[Deferred[Any]] = [listener.stopListening() for listener in self._publicListeners]
            stopped.append(self._portDoors.stop())
            self._log.info(
                "stopping: {count} visitors have {seconds} s",
                event="gateway.stopping",
                count=len(self.visitors.visits),
                seconds=seconds,
            )
            self.visitors.drain()
            self.http.drain()
            self.agents.drain(seconds)
            if self.pipeGate is not None:
                self.pipeGate.stop()
            if (relay := self._networkRelay) is not None:
                relay.drain(seconds)
            # Now, as many of its sessions lead to agents. It has a time of its own, and may take longer.
            tabby = succeed(None) if self._tabby is None else maybeDeferred(self._tabby.disownServiceParent)
            left = [self.visitors.empty(), self._clients.vacancy.awaited(), tabby]
            if relay is not None:
                left.append(relay.awaited())
            await self._draining.wait(seconds, gatherResults(left))
            self.visitors.end()
            if relay is not None:
                await self._draining.wait(CLOSE_TIMEOUT, relay.close())
            await self._draining.wait(CLOSE_TIMEOUT, ensureDeferred(self.agents.close()))
            await self._draining.wait(CLOSE_TIMEOUT, gatherResults(stopped, consumeErrors=True))
            await tabby
            await super().stopService()
            self._accessLog.close()
            signal.signal(signal.SIGHUP, self._previous or signal.SIG_DFL)  # None: not installed from Python
        self._log.info("stopped", event="gateway.stopped")


def _readCertificates(settings: GatewaySettings, clock: IReactorTime) -> Certificates:
    authority = settings.config.agents.clientCa or None
    try:
        return Certificates(settings.certificates, clock=clock, clientAuthority=authority)
    except CertificateError as e:
        raise ConfigurationError(f"certificate: {e}") from None


def checkFiles(settings: GatewaySettings) -> None:
    """
    Whether the files that the settings name can be used, without a gateway that uses them.

    @raise ConfigurationError: they cannot.
    """
    _readCertificates(settings, Clock())
    if settings.networkRelay is not None:
        CredentialsFile(settings.networkRelay.key, settings.networkRelay.credentialsFile)
    accessLog = settings.config.http.accessLog
    try:
        checkAccessLog(accessLog)
        if options := _tabbyOptions(settings):
            checkTabbyFiles(options)
    except OSError as e:
        raise _noAccessLog(accessLog, e) from None
    except usage.UsageError as e:
        raise ConfigurationError(f"tabby.options: {e}") from None


def _noAccessLog(path: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"http.access-log: {path}: {error.strerror}")


def _tabbyOptions(settings: GatewaySettings) -> TabbyOptions | None:
    words = settings.config.tabby.options
    if not words:
        return None
    options = TabbyOptions()
    options.parseOptions(list(words))
    return options


def _port(places: Sequence[Listen], usual: int) -> int:
    """The port that agents are told; an endpoint string does not show it."""
    return (places[0].port or usual) if places else 0
