"""
go-tunnel's server as one service: a gateway whose agents may speak go-tunnel's dialect, on a port of their own::

    read = partial(readServerSettings, variables)
    GoTunnelServer(reactor, read(), read).setServiceParent(application)
"""

__all__ = ["GoTunnelServer"]

from collections.abc import Callable

from gateway.service.gotunnel.port import GoTunnelPort
from gateway.service.gotunnel.settings import GoTunnelServerSettings
from gateway.service.server.arrivals import Arrivals
from gateway.service.server.service import GatewayService, IReactor


class GoTunnelServer(GatewayService):
    """
    @param reread: reads the settings again, for SIGHUP; raises C{ConfigurationError}.
    @raise ConfigurationError: a file or endpoint that the settings name cannot be used.
    """

    def __init__(
        self, reactor: IReactor, settings: GoTunnelServerSettings, reread: Callable[[], GoTunnelServerSettings]
    ) -> None:
        super().__init__(reactor, settings.gateway, lambda: reread().gateway)
        assert self.goTunnel is not None  # its settings are never without
        self.dialect = self.goTunnel
        limits = settings.gateway.config.limits
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
