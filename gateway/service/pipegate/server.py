"""
PipeGate's server as one service: a gateway with one port, and no agents but PipeGate's clients::

    options = PipeGateServerOptions()
    options.parseOptions(["--port", "8000", "--tokens", "tokens.txt"])
    PipeGateServer(reactor, options.readSettings(), options.readSettings).setServiceParent(application)
"""

__all__ = ["PipeGateServer"]

from collections.abc import Callable
from dataclasses import replace

from twisted.logger import Logger

from gateway.net.tls import CertificateError, CertificateFiles
from gateway.service.configuration import ConfigurationError
from gateway.service.pipegate.port import DOOR, PipeGatePort, PipeGateSite
from gateway.service.pipegate.settings import PipeGateServerSettings
from gateway.service.server.arrivals import Arrivals
from gateway.service.server.certificates import HTTP
from gateway.service.server.service import GatewayService, IReactor


class PipeGateServer(GatewayService):
    """
    @param reread: reads the settings again, for SIGHUP; raises C{ConfigurationError}.
    @raise ConfigurationError: a file or endpoint that the settings name cannot be used.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactor, settings: PipeGateServerSettings, reread: Callable[[], PipeGateServerSettings]
    ) -> None:
        super().__init__(reactor, settings.gateway, lambda: reread().gateway)
        assert self.pipeGate is not None  # its settings are never without
        self.dialect = self.pipeGate
        limits = settings.gateway.config.limits
        isSecure = settings.certificate is not None
        self.agents.settings = replace(
            self.agents.settings,
            tlsPort=settings.listen.port if isSecure else 0,
            httpPort=0 if isSecure else settings.listen.port,
        )
        self.agents.isCertified = lambda name: True  # its certificate is for whatever leads here
        self.http.site = PipeGateSite(reactor, self.agents, self.dialect)
        port = PipeGatePort(
            reactor,
            self.http,
            certificate=_certificate(reactor, settings),
            helloTimeout=limits.helloTimeout,
            handshakeTimeout=limits.handshakeTimeout,
        )
        arrivals = Arrivals(port.arrive, clock=reactor, proxies=settings.gateway.http.proxies)
        self._listen(DOOR, [settings.listen], arrivals, self._publicListeners)


def _certificate(reactor: IReactor, settings: PipeGateServerSettings) -> CertificateFiles | None:
    if settings.certificate is None:
        return None
    certificate, key = settings.certificate
    try:
        return CertificateFiles(certificate, key, alpn=HTTP, clock=reactor)
    except CertificateError as e:
        raise ConfigurationError(f"--ssl-certfile: {e}") from None
