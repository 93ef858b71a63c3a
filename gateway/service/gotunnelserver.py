"""
go-tunnel's server as one service: a gateway whose agents may speak go-tunnel's dialect, on a port of their own::

    read = partial(readServerSettings, variables)
    GoTunnelServer(reactor, read(), read).setServiceParent(application)
"""

__all__ = ["GoTunnelServer"]

from collections.abc import Callable

from twisted.logger import Logger

from gateway.service.arrivals import Arrivals
from gateway.service.gatewayservice import GatewayService, IReactor
from gateway.service.gatewaysettings import GatewaySettings
from gateway.service.gotunneldoor import GoTunnelDialect
from gateway.service.gotunnelport import GoTunnelPort
from gateway.service.gotunnelsession import GoTunnelSettings
from gateway.service.gotunnelsettings import GoTunnelServerSettings

PONG_DELAY = 5.0
"""Seconds after the next ping for an answer to the one before, so that 15 and 20 make the original's two times."""


class GoTunnelServer(GatewayService):
    """
    @param reread: reads the settings again, for SIGHUP; raises C{ConfigurationError}.
    @raise ConfigurationError: a file or endpoint that the settings name cannot be used.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactor, settings: GoTunnelServerSettings, reread: Callable[[], GoTunnelServerSettings]
    ) -> None:
        super().__init__(reactor, settings.gateway, self._rereadAll)
        self._isSecretShort = settings.isSecretShort
        self._readAll = reread
        limits = settings.gateway.config.limits
        times = GoTunnelSettings(pingInterval=limits.pingInterval, pongTimeout=limits.pingInterval + PONG_DELAY)
        self.dialect = GoTunnelDialect(self.agents, settings.tokens, settings.grant, times)
        port = GoTunnelPort(
            reactor,
            self.agents,
            self.agentPort.certificates,
            self.dialect,
            otherwise=settings.tunnelHost or settings.gateway.publicHost,
            helloTimeout=limits.helloTimeout,
            handshakeTimeout=limits.handshakeTimeout,
        )
        self._listen("tunnel", [settings.tunnelListen], Arrivals(port.arrive, clock=reactor), self._publicListeners)

    def _rereadAll(self) -> GatewaySettings:
        """A new secret, and new names, are for agents that come from now on."""
        settings = self._readAll()
        self.dialect.tokens, self.dialect.grant = settings.tokens, settings.grant
        return settings.gateway

    def startService(self) -> None:
        super().startService()
        if self._isSecretShort:
            self._log.warn(
                "JWT_SECRET is short enough to be guessed: take 32 characters or more",
                event="gotunnel.short-secret",
            )
