"""
PipeGate's server as one service: a gateway with one port, and no agents but PipeGate's clients::

    options = PipeGateServerOptions()
    options.parseOptions(["--port", "8000", "--tokens", "tokens.txt"])
    PipeGateServer(reactor, options.readSettings(), options.readSettings).setServiceParent(application)
"""

__all__ = ["PipeGateServer"]

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gateway.domain.pipegate import PipeGateAuthority, PipeGateTokens
from gateway.domain.routes import Place
from gateway.net.tls import CertificateError, CertificateFiles
from gateway.service.configuration import ConfigurationError
from gateway.service.pipegate.dialect import PipeGateDialect
from gateway.service.pipegate.port import DOOR, PipeGatePort, PipeGateSite
from gateway.service.pipegate.settings import PipeGateServerSettings
from gateway.service.server.arrivals import Arrivals
from gateway.service.server.certificates import HTTP
from gateway.service.server.service import GatewayService, IReactor
from gateway.service.server.settings import GatewaySettings

_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1"))
"""Where a proxy on this machine comes from: nobody is to be shut out with all others behind it."""


class PipeGateServer(GatewayService):
    """
    @param reread: reads the settings again, for SIGHUP; raises C{ConfigurationError}.
    @raise ConfigurationError: a file or endpoint that the settings name cannot be used.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactor, settings: PipeGateServerSettings, reread: Callable[[], PipeGateServerSettings]
    ) -> None:
        self._tokens = settings.tokens

        def rereadGateway() -> GatewaySettings:
            found = reread()
            self._tokens = found.tokens
            return found.gateway

        super().__init__(reactor, settings.gateway, rereadGateway)
        limits = settings.gateway.config.limits
        authority = PipeGateAuthority(PipeGateTokens(settings.tokens), domain=settings.domain)
        self.agents.authority = authority
        isSecure = settings.certificate is not None
        self.agents.settings = replace(
            self.agents.settings,
            tlsPort=settings.listen.port if isSecure else 0,
            httpPort=0 if isSecure else settings.listen.port,
        )
        self.dialect = PipeGateDialect(
            self.agents,
            authority,
            settings.json,
            shares=settings.shares,
            proxies=(*_LOOPBACK, *settings.gateway.trustedProxies),
            handshakeTimeout=limits.headTimeout,
        )
        self.http.site = PipeGateSite(reactor, self.agents)
        port = PipeGatePort(
            reactor,
            self.http,
            self.dialect,
            certificate=_certificate(reactor, settings),
            helloTimeout=limits.helloTimeout,
            handshakeTimeout=limits.handshakeTimeout,
        )
        arrivals = Arrivals(port.arrive, clock=reactor, proxies=settings.gateway.http.proxies)
        self._listen(DOOR, [settings.listen], arrivals, self._publicListeners)

    def _isOurs(self, place: Place) -> bool:
        # The paths of a gateway's own site are not there.
        return place.kind != "prefix" and super()._isOurs(place)

    def reload(self) -> None:
        """Take the tokens and limits as they are now, besides what a gateway takes."""
        super().reload()
        self.dialect.authority.tokens = PipeGateTokens(self._tokens)
        self.dialect.tokensChanged()

    def stopService(self) -> Deferred[None]:
        """Stop accepting, let visits end, then stop the rest."""
        self.dialect.stop()
        return super().stopService()


def _certificate(reactor: IReactor, settings: PipeGateServerSettings) -> CertificateFiles | None:
    if settings.certificate is None:
        return None
    certificate, key = settings.certificate
    try:
        return CertificateFiles(certificate, key, alpn=HTTP, clock=reactor)
    except CertificateError as e:
        raise ConfigurationError(f"--ssl-certfile: {e}") from None
