"""
A network relay as a part of a gateway: its credentials file, its access clients and its door::

    relay = NetworkRelay(reactor, "credentials.json", agents, visitors, doors, admission, RelayDoorSettings(), changed)
    relay.setServiceParent(gateway)
    authority.replaceEntries([*relay.entries, *others])     # and again whenever changed() is called
    endpoint.listen(relay.factory)

The credentials file is looked at every two seconds, and read again when it has changed. One that cannot be used
leaves everything as it was.
"""

__all__ = ["CredentialsFile", "NetworkRelay"]

import os
from collections.abc import Callable
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from gateway.domain.agents import AgentEntry
from gateway.domain.grant import Grant
from gateway.domain.limits import Admission
from gateway.domain.registry import IDoors, PortRules, Registry
from gateway.domain.relaycredentials import MAX_FILE, CredentialsError, RelayCredentials, parseCredentials
from gateway.service.configuration import ConfigurationError
from gateway.service.listening import DoorFactory
from gateway.service.networkrelay.access import AccessAuthority, Targets
from gateway.service.networkrelay.clients import AccessClients
from gateway.service.networkrelay.door import RelayDoor, RelayDoorSettings
from gateway.service.server.agentdoor import AgentDoor
from gateway.service.server.clientstreams import ClientStreams
from gateway.service.server.visitors import Visitors

LOOK_INTERVAL = 2.0
"""Seconds between looks at the credentials file."""


class CredentialsFile:
    """
    @param key: that names the file, for errors.
    @ivar credentials: as they were read last.
    @raise ConfigurationError: the file cannot be used; in one line that names it.
    """

    def __init__(self, key: str, path: str) -> None:
        self.key = key
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self.credentials = RelayCredentials()
        self.read()

    def read(self) -> None:
        """
        Read it, changed or not.

        @raise ConfigurationError: it cannot be used, and what was read before still holds.
        """
        self._seen = self._stamp()
        try:
            with Path(self.path).open("rb") as file:
                content = file.read(MAX_FILE + 1)
            self.credentials = parseCredentials(content)
        except OSError as e:
            raise ConfigurationError(f"{self.key}: {self.path}: {e.strerror}") from None
        except CredentialsError as e:
            raise ConfigurationError(f"{self.key}: {self.path}: {e}") from None

    def hasChanged(self) -> bool:
        """Whether the file is another one than that which was read, or tried, last."""
        return self._stamp() != self._seen

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


class NetworkRelay(Service):
    """
    @param agents: where edge agents attach.
    @param visitors: whose memory and limits the connections of access clients share.
    @param doors: of the gateway's own registry. Access clients have one of their own, in which nothing is served.
    @param admission: of access clients.
    @param changed: called when L{entries} are others.
    @param key: that names the credentials file, for errors.
    @raise ConfigurationError: the credentials file cannot be used.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        credentialsFile: str,
        agents: AgentDoor,
        visitors: Visitors,
        doors: IDoors,
        admission: Admission,
        settings: RelayDoorSettings,
        changed: Callable[[], None],
        *,
        key: str = "networkrelay.credentials-file",
    ) -> None:
        self._file = CredentialsFile(key, credentialsFile)
        self._changed = changed
        self._streams = ClientStreams(visitors, Targets(agents.registry, reactor))
        authority = AccessAuthority(self._file.credentials)
        door = AgentDoor(
            reactor,
            Registry(PortRules(), doors),
            authority,
            settings=agents.settings,
            admission=admission,
            bans=agents.bans,
            windows=agents.windows,
            clientStreams=self._streams.factoryFor,
        )
        self.clients = AccessClients(door, self._streams, authority)
        self.door = RelayDoor(reactor, agents, self.clients, visitors, settings)
        self.factory = DoorFactory(self.door.arrive, self.door.websockets, clock=reactor, timeout=settings.headTimeout)
        self._looks = LoopingCall(self._look)
        self._looks.clock = reactor

    @property
    def entries(self) -> list[AgentEntry]:
        """The edge agents, as the gateway's authority takes them."""
        return [
            AgentEntry(agent.label, Grant(behind=agent.targets), (agent.secret,))
            for agent in self._file.credentials.agents
        ]

    # -- Life

    def startService(self) -> None:
        super().startService()
        self._logCredentials()
        self._looks.start(LOOK_INTERVAL, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._looks.running:
            self._looks.stop()

    def _look(self) -> None:
        if self._file.hasChanged():
            self.reload()

    def reload(self) -> None:
        """Read the credentials again. Connections go on whose agents and clients are still known."""
        try:
            self._file.read()
        except ConfigurationError as e:
            self._log.error("credentials not read: {problem}", event="networkrelay.credentials-failed", problem=str(e))
            return
        self._changed()
        self.clients.use(self._file.credentials)
        self._logCredentials()

    def _logCredentials(self) -> None:
        credentials = self._file.credentials
        self._log.info(
            "there are credentials of {agents} edge agents and {clients} access clients",
            event="networkrelay.credentials",
            agents=len(credentials.agents),
            clients=len(credentials.clients),
        )

    def drain(self, seconds: float) -> None:
        """Take no more access clients."""
        self.clients.door.drain(seconds)

    def awaited(self) -> Deferred[None]:
        """
        @return: fires when no access client has a connection any more.
        """
        return self._streams.vacancy.awaited()

    def close(self) -> Deferred[None]:
        """
        End all access clients.

        @return: fires when they are gone.
        """
        return ensureDeferred(self.clients.close())
