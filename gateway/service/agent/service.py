"""
The agent as one service: a configuration to origins, health checks, an attachment to the gateway, and signals::

    options = AgentOptions()
    options.parseOptions(["--config", "agent.toml"])
    AgentService(reactor, options.readPlan(), options.readPlan).setServiceParent(application)
"""

__all__ = ["AgentService", "IReactor"]

import os
import signal
from collections import Counter
from collections.abc import Callable

import msgspec
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.logger import Logger

from gateway.net.budget import StallBudget
from gateway.net.incoming import IncomingStreams, Taken
from gateway.net.relay import RelaySettings
from gateway.net.udp import wasUnreached
from gateway.service.agent.attachedservice import CLOSE_TIMEOUT, LOOKUP_THREADS
from gateway.service.agent.carrier import carrierEndpoint
from gateway.service.agent.client import AgentClient
from gateway.service.agent.config import AgentPlan, readCredential
from gateway.service.agent.health import HealthChecks
from gateway.service.agent.origins import IReactorOrigins, Origins
from gateway.service.configuration import ConfigurationError
from gateway.service.descriptors import raiseDescriptorLimit
from gateway.service.draining import Draining, IReactorDraining
from gateway.service.logs import RefusalLog
from gateway.wire.agentcontrol import Register
from gateway.wire.proxyheader import Address, Tlv
from gateway.wire.window import WindowBudget

_MIB = 1024 * 1024


class IReactor(IReactorOrigins, IReactorDraining):
    """What the service needs of a reactor."""


class AgentService(MultiService):
    """
    One agent.

    @param readPlan: reads the configuration again, at SIGHUP; raises L{ConfigurationError}.
    """

    _log = Logger()

    def __init__(self, reactor: IReactor, plan: AgentPlan, readPlan: Callable[[], AgentPlan]) -> None:
        super().__init__()
        self._reactor = reactor
        self._plan = plan
        self._readPlan = readPlan
        self._draining = Draining(reactor)
        self._unreached = RefusalLog(reactor)
        self._generations: Counter[str] = Counter()  # of each service: how often its origin was exchanged
        limits = plan.limits
        settings = RelaySettings(idleTimeout=limits.idleTimeout or None)
        self.origins = Origins(reactor, settings, datagramIdle=limits.udpIdleTimeout)
        self.health = HealthChecks(reactor, self._offer)
        self._visitors = IncomingStreams(
            reactor, self.origins.decide, self._visitEnded, budget=StallBudget(limits.memory * _MIB)
        )
        self.client = AgentClient(
            reactor,
            carrierEndpoint(reactor, plan.link),
            self._introduce,
            self._visitors,
            gateway=plan.link.to,
            windows=WindowBudget(limits.memory * _MIB),
            streams=limits.streams,
            ping=limits.pingInterval,
            drain=limits.drain,
        )

    def _introduce(self) -> Register:
        credential = readCredential(self._plan.credential, os.environ)
        return msgspec.structs.replace(self._plan.register, credential=credential)

    def _offer(self) -> None:
        """Say what is served, and how it is."""
        register = self._plan.register
        services = tuple(
            msgspec.structs.replace(
                each, healthy=self.health.isHealthy(each.key), generation=self._generations[each.key]
            )
            for each in register.services
        )
        self.client.offer(services, targets=register.targets)

    def _apply(self) -> None:
        plan = self._plan
        self.origins.services = plan.origins
        self.origins.policy = plan.policy
        self.health.watch({key: (plan.origins[key], settings) for key, settings in plan.health.items()})
        self._offer()
        for key, origin in plan.origins.items():
            if origin.tls is not None and not origin.tls.trust.verify:
                self._log.warn(
                    "origin-verify of {service} is false: whoever answers for {origin} is believed",
                    event="agent.origin-unverified",
                    service=key,
                    origin=str(origin),
                )
        if not (plan.register.services or plan.register.targets):
            self._log.warn("neither a service nor a target is offered to anybody", event="agent.nothing-offered")

    def _visitEnded(self, taken: Taken) -> None:
        preamble, outcome = taken.preamble, taken.outcome
        if preamble is None:
            self._log.info("a stream led nowhere: {problem}", event="agent.stream-refused", problem=taken.problem)
            return
        source = preamble.header.source
        facts = {
            "to": preamble.to if isinstance(preamble.to, str) else f"{preamble.to.host}:{preamble.to.port}",
            "visitor": str(source.host) if isinstance(source, Address) else "visitors",  # of a web server, one by one
            "visit": (preamble.header.get(Tlv.UNIQUE_ID) or b"").decode("latin-1"),
        }
        if outcome is not None and preamble.header.datagram and wasUnreached(outcome):
            self._unreached.refused(f"nobody is at the origin of {facts['to']}", facts["visitor"])
        elif outcome is None or taken.problem is not None:
            self._log.info(
                "{visitor} could not reach {to}: {problem}",
                event="agent.visit-failed",
                problem=taken.problem,
                **facts,
            )
        else:
            self._log.info(
                "{visitor} left {to}: {cause}",
                event="agent.visit-closed",
                cause=outcome.cause,
                up=outcome.up,
                down=outcome.down,
                seconds=outcome.seconds,
                **facts,
            )

    # -- Life

    def privilegedStartService(self) -> None:
        # Each visit takes one, for its origin; the rest is for carriers, log files and name lookups.
        raiseDescriptorLimit(self._plan.limits.streams + 64)
        super().privilegedStartService()

    def startService(self) -> None:
        super().startService()
        if IReactorThreads.providedBy(self._reactor):
            self._reactor.suggestThreadPoolSize(LOOKUP_THREADS)
        self._previous = signal.signal(signal.SIGHUP, lambda number, frame: self._reactor.callFromThread(self.reload))
        self._apply()
        self.client.start()

    def reload(self) -> None:
        """
        Read the configuration again. Visits go on, whatever changes; one that cannot be used leaves all as it was.
        """
        try:
            plan = self._readPlan()
        except ConfigurationError as e:
            self._log.error("not reloaded: {problem}", event="agent.reload-failed", problem=str(e))
            return
        before, self._plan = self._plan, plan
        for key, origin in before.origins.items():
            self._generations[key] += plan.origins.get(key) != origin
        self._apply()
        if _way(before) != _way(plan):
            self.client.move(carrierEndpoint(self._reactor, plan.link), self._introduce, plan.link.to)
        if msgspec.structs.replace(before.limits, drain=plan.limits.drain) != plan.limits:
            self._log.warn("a change of limits needs a restart", event="agent.needs-restart")
        self._log.info("reloaded: {count} services", event="agent.reloaded", count=len(plan.register.services))

    def stopService(self) -> Deferred[None]:
        """Take no more visitors, let those that there are finish, then leave."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        seconds = self._plan.limits.drain
        with self._draining.hurriedBySignals():
            self.health.watch({})
            self._log.info(
                "stopping: {count} visits have {seconds:g} seconds",
                event="agent.stopping",
                count=self.client.streams,
                seconds=seconds,
            )
            over = self.client.drain(seconds)
            self._visitors.drain()
            await self._draining.wait(seconds, over)
            self.client.close()
            await self._draining.wait(CLOSE_TIMEOUT, over)
            await super().stopService()
            self._unreached.stop()
        signal.signal(signal.SIGHUP, self._previous or signal.SIG_DFL)  # None: not installed from Python
        self._log.info("stopped", event="agent.stopped")


def _way(plan: AgentPlan) -> object:
    """All that a session is begun with, and cannot be told later."""
    return plan.link, plan.credential, msgspec.structs.replace(plan.register, services=(), targets=False)
