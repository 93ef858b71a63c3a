"""
The Tabby gateway as one service: options to doors, ports, signals::

    options = TabbyOptions()
    options.parseOptions(["--no-auth"])
    TabbyService(reactor, options).setServiceParent(application)
"""

__all__ = ["TabbyService", "checkFiles"]

import os
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from twisted.application.service import MultiService
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorThreads, IReactorTime, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python import usage

from gateway.domain.addresses import IPAddress, parseAddress
from gateway.domain.identity import Identity
from gateway.domain.limits import Admission, Bans
from gateway.domain.targets import Target, TargetPolicy
from gateway.domain.tokens import OneShotTokens, TokenAuthority, generateToken
from gateway.domain.tokensfile import TokensFile, TokensFileError, parseTokensFile
from gateway.net.budget import StallBudget
from gateway.net.dial import FailingEndpoint, IReactorDial
from gateway.net.relay import RelaySettings
from gateway.net.tls import CertificateError, CertificateFiles
from gateway.net.websocket import WebSocketServerFactory
from gateway.net.websocketlimits import WebSocketSettings
from gateway.service.descriptors import raiseDescriptorLimit
from gateway.service.draining import Draining, IReactorDraining
from gateway.service.listening import DoorFactory, ListenerService, describedEndpoint, serverEndpoint
from gateway.service.management import ManagementDoor
from gateway.service.metrics import Metrics
from gateway.service.server.attached import Visitor
from gateway.service.server.destinations import Destinations
from gateway.service.tabby.door import TabbyDoor, TabbySettings
from gateway.service.tabby.options import TabbyOptions
from gateway.service.target import TargetEndpoint, TargetRefused, policyFor


class IReactor(IReactorDial, IReactorDraining):
    """What the service needs of a reactor."""


LOOKUP_THREADS = 64
"""Names that can be looked up at once. A slow name server keeps a thread for each until it gives up."""


class TabbyService(MultiService):
    """
    A Tabby gateway, with its client listeners and, where asked for, its management and metrics listeners.

    @param destinations: what names of agents mean, in the process of a gateway that has some.
    @param others: ports of that process that are no targets either.
    @param draining: of that process.
    @ivar listeners: all ports of this service.
    @raise usage.UsageError: when a file or endpoint that the options name cannot be used; it names the option.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        options: TabbyOptions,
        destinations: Destinations | None = None,
        others: Sequence[ListenerService] = (),
        draining: Draining | None = None,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._options = options
        self._destinations = destinations
        self._others = others
        self._draining = draining or Draining(reactor)
        self._anonymous = bool(options["no-auth"])
        self._metrics = Metrics()
        self._certificates: list[CertificateFiles] = []
        self._clientListeners: list[ListenerService] = []
        self.listeners: list[ListenerService] = []
        self._managementDoors: list[ManagementDoor] = []

        file = _readTokens(self._options)
        oneShot = None
        if options["admin-port"] is not None:
            oneShot = OneShotTokens(reactor.seconds, options["one-shot-ttl"], options["one-shot-limit"])
        self._quickToken = None if options["state"] is None else _keptToken(Path(options["state"]))
        authority = TokenAuthority(
            environmentToken=options.environmentToken or self._quickToken,
            file=file,
            oneShot=oneShot,
            anonymous=self._anonymous,
        )
        self._policy = self._policyOf(file)
        bans = Bans(options["ban-after"] or sys.maxsize, duration=options["ban-seconds"])
        self.door = TabbyDoor(
            reactor,
            authority,
            self._endpointFor,
            settings=self._settings(),
            admission=Admission(
                reactor.seconds(),
                unauthenticated=options["max-unauthenticated"] or None,
                unauthenticatedPerAddress=options["max-unauthenticated-per-address"] or None,
                perAddress=options["max-per-address"] or None,
                newPerSecond=options["new-per-second"] or None,
                newPerSecondPerAddress=options["new-per-second-per-address"] or None,
                bans=bans,
            ),
            bans=bans,
            budget=StallBudget(options["stall-memory"] * 1024 * 1024),
            metrics=self._metrics,
        )
        self._listenForClients()
        self._listenForManagement(oneShot)

    # -- What the options say

    def _settings(self) -> TabbySettings:
        options = self._options
        origins, hosts = set(options.origins), set(options.hosts)
        if self._anonymous:
            hosts |= {"localhost", options["host"].lower()}
            if options["public-url"]:
                hosts.add((urlsplit(options["public-url"]).hostname or "").lower())
        elif not origins:
            origins = {"*"}
        return TabbySettings(
            handshakeTimeout=options["handshake-timeout"],
            relay=RelaySettings(dialTimeout=options["connect-timeout"], idleTimeout=options["idle-timeout"] or None),
            origins=frozenset(origins),
            hosts=frozenset(hosts) if hosts else None,
            trustedProxies=tuple(options.trustedProxies),
            publicURL=options["public-url"],
        )

    def _isSecure(self, listen: str) -> bool:
        return self._options["certificate"] is not None or listen.startswith("ssl:")

    def _policyOf(self, file: TokensFile) -> TargetPolicy:
        rules = (*file.rules, *self._options.rules)
        return TargetPolicy(rules, strict=self._anonymous, ownListener=self._isOwnListener)

    def _isOwnListener(self, address: IPAddress, port: int) -> bool:
        return any(listener.reaches(address, port) for listener in (*self.listeners, *self._others))

    def _endpointFor(self, target: Target, identity: Identity) -> IStreamClientEndpoint:
        policy = policyFor(identity, self._policy)
        if self._destinations is not None:
            endpoint = self._destinations.endpointFor(target, Visitor(None, None))
            if endpoint is not None:
                # Refused first: who may not go there is not to learn what is there.
                refusal = policy.checkNameAlone(target.host, target.port)
                return endpoint if refusal is None else FailingEndpoint(TargetRefused(refusal))
        return TargetEndpoint(self._reactor, target, policy)

    # -- Ports

    def _certificate(self, prefix: str = "") -> CertificateFiles | None:
        files = _certificateFiles(self._options, prefix, self._reactor)
        if files is not None:
            self._certificates.append(files)
        return files

    def _listenForClients(self) -> None:
        options, door = self._options, self.door
        websockets = WebSocketServerFactory(
            clock=self._reactor,
            settings=WebSocketSettings(
                handshakeTimeout=options["handshake-timeout"], pingInterval=options["ping-interval"]
            ),
        )
        certificate = self._certificate()

        def factoryFor(listen: str) -> DoorFactory:
            return DoorFactory(
                partial(door.arrive, secure=self._isSecure(listen)),
                websockets,
                clock=self._reactor,
                certificate=certificate,
                timeout=options["handshake-timeout"],
            )

        for description in options.listen:
            self._add("listen", description, factoryFor(description), "tabby", self._clientListeners)
        if not options.listen:
            self._addPort(options["host"], options["port"], factoryFor(""), "tabby", self._clientListeners)

    def _listenForManagement(self, oneShot: OneShotTokens | None) -> None:
        options = self._options
        if oneShot is not None:
            factory = self._managementFactory(oneShot, self._certificate("admin-"))
            self._addPort(options["admin-host"], options["admin-port"], factory, "tabby management", [])
        if options["metrics-listen"] is not None:
            factory = self._managementFactory(None, None)
            self._add("metrics-listen", options["metrics-listen"], factory, "tabby metrics", [])

    def _managementFactory(self, oneShot: OneShotTokens | None, certificate: CertificateFiles | None) -> DoorFactory:
        door = ManagementDoor(oneShot, self._metrics, clock=self._reactor, isDraining=lambda: self.door.draining)
        websockets = WebSocketServerFactory(clock=self._reactor)
        self._managementDoors.append(door)
        return DoorFactory(door.arrive, websockets, clock=self._reactor, certificate=certificate)

    def _add(
        self, option: str, description: str, factory: DoorFactory, label: str, group: list[ListenerService]
    ) -> None:
        try:
            endpoint = describedEndpoint(self._reactor, description)
        except ValueError as e:
            raise usage.UsageError(f"--{option}: {e}") from None
        self._keep(ListenerService(endpoint, factory, label, description), group)

    def _addPort(self, host: str, port: int, factory: DoorFactory, label: str, group: list[ListenerService]) -> None:
        endpoint = serverEndpoint(self._reactor, host, port)
        self._keep(ListenerService(endpoint, factory, label, f"{host or '*'}:{port}"), group)

    def _keep(self, listener: ListenerService, group: list[ListenerService]) -> None:
        listener.setServiceParent(self)
        self.listeners.append(listener)
        group.append(listener)

    # -- Life

    def privilegedStartService(self) -> None:
        # A visitor and its target each take one; the rest is for listeners, log files and name lookups.
        raiseDescriptorLimit(2 * self._options["max-unauthenticated"] + 64)
        super().privilegedStartService()

    def startService(self) -> None:
        self.door.draining = False
        super().startService()
        if IReactorThreads.providedBy(self._reactor):
            self._reactor.suggestThreadPoolSize(LOOKUP_THREADS)
        self._previous = signal.signal(signal.SIGHUP, lambda number, frame: self._reactor.callFromThread(self.reload))
        url = self.url
        if url is not None:
            self._log.info("the gateway URL for Tabby Web is {url}", event="tabby.url", url=url)
        named = bool(self._options["tokens"])
        if self._anonymous and (named or not all(listener.isLocal for listener in self._clientListeners)):
            self._log.warn("no token is asked for: whoever reaches this port can use it", event="tabby.unprotected")
        if self._quickToken is not None:
            # Not on sys.stdout, which twistd makes part of the log by now: a token is for the person, not for a log.
            shown = url or "that of the proxy in front"
            text = f"\n  Connection gateway URL:  {shown}\n  Token:                   {self._quickToken}\n"
            print(text, file=sys.__stdout__, flush=True)

    @property
    def url(self) -> str | None:
        """What to paste into Tabby Web; C{None} for a UNIX socket, of which only the proxy in front knows it."""
        if self._options["public-url"]:
            return str(self._options["public-url"])
        port = self._clientListeners[0].port
        address = port.getHost() if port is not None else None
        if not isinstance(address, IPv4Address | IPv6Address):
            return None
        host, number = address.host, address.port
        parsed = parseAddress(host)
        if parsed is None or parsed.is_unspecified:
            host = socket.gethostname()
        elif parsed.version == 6:
            host = f"[{host}]"
        scheme, usual = ("wss", 443) if self._isSecure("".join(self._options.listen[:1])) else ("ws", 80)
        return f"{scheme}://{host}" + ("" if number == usual else f":{number}")

    def reload(self) -> None:
        """
        Read tokens, rules and certificates again. A tokens file that cannot be used leaves everything as it was, a
        certificate that cannot be used only itself.
        """
        try:
            file = _readTokens(self._options)
        except usage.UsageError as e:
            self._log.error("not reloaded: {problem}", event="tabby.reload-failed", problem=str(e))
            return
        self.door.authority.replaceFile(file)
        self._policy = self._policyOf(file)
        for certificate in self._certificates:
            certificate.refresh(always=True)
        self.door.tokensChanged()
        self._log.info("reloaded: {tokens} tokens, {rules} rules in the tokens file", event="tabby.reloaded",
                       tokens=len(file.tokens), rules=len(file.rules))  # fmt: skip

    def stopService(self) -> Deferred[None]:
        """Stop accepting, drain, then stop the rest."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        with self._draining.hurriedBySignals():
            try:
                stopped = [listener.stopListening() for listener in self._clientListeners]
                await gatherResults(stopped, consumeErrors=True)
            finally:
                self._log.info(
                    "stopping: {count} visitors have {seconds} s",
                    event="tabby.stopping",
                    count=len(self.door.visits),
                    seconds=self._options["drain"],
                )
                await self.door.drain(self._options["drain"], self._draining)
                await super().stopService()
                for door in self._managementDoors:
                    door.stop()
                signal.signal(signal.SIGHUP, self._previous or signal.SIG_DFL)  # None: not installed from Python
                self._log.info("stopped", event="tabby.stopped")


def checkFiles(options: TabbyOptions) -> None:
    """
    Whether the files that the options name can be used, without a gateway that uses them.

    @raise usage.UsageError: they cannot; it names the option.
    """
    _readTokens(options)
    for prefix in ("", "admin-") if options["admin-port"] is not None else ("",):
        _certificateFiles(options, prefix, Clock())


def _readTokens(options: TabbyOptions) -> TokensFile:
    path = options["tokens"]
    if path is None:
        return TokensFile()
    try:
        return parseTokensFile(Path(path).read_bytes(), path)
    except OSError as e:
        raise usage.UsageError(f"--tokens: {path}: {e.strerror}") from None
    except TokensFileError as e:
        raise usage.UsageError(f"--tokens: {e}") from None


def _certificateFiles(options: TabbyOptions, prefix: str, clock: IReactorTime) -> CertificateFiles | None:
    certificate, key, ca = (options[f"{prefix}{name}"] for name in ("certificate", "private-key", "ca"))
    if certificate is None:
        return None
    try:
        return CertificateFiles(certificate, key, ca, clock=clock)
    except CertificateError as e:
        raise usage.UsageError(f"--{prefix}certificate: {e}") from None


def _keptToken(directory: Path) -> str:
    """
    The token kept in a directory, generated when there is none yet; readable by its owner alone.

    @raise usage.UsageError: when it cannot be kept there.
    """
    path = directory / "token"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            if token := path.read_text().strip():
                return token
            raise usage.UsageError(f"--state: {path} is empty: remove it for a new token") from None
        token = generateToken()
        with open(descriptor, "w") as file:
            file.write(token + "\n")
        return token
    except OSError as e:
        raise usage.UsageError(f"--state: {e.filename}: {e.strerror}") from None
