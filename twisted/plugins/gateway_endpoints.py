"""The endpoint strings of txgateway: prefixes and the names of what reads them, which is imported when one is used."""

from twisted.internet.interfaces import IStreamClientEndpointStringParserWithReactor, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from twisted.python.reflect import namedAny
from zope.interface import implementer


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class _Client:
    def __init__(self, prefix, name, *arguments):
        self.prefix, self._name, self._arguments = prefix, name, arguments

    def parseStreamClient(self, reactor, *args, **kwargs):
        return namedAny(self._name)(reactor, *self._arguments, *args, **kwargs)


@implementer(IPlugin, IStreamServerEndpointStringParser)
class _Server:
    def __init__(self, prefix, name):
        self.prefix, self._name = prefix, name

    def parseStreamServer(self, reactor, *args, **kwargs):
        return namedAny(self._name)(reactor, *args, **kwargs)


webSocketClient = _Client("ws", "gateway.service.endpoints.webSocketClient", "ws")
secureWebSocketClient = _Client("wss", "gateway.service.endpoints.webSocketClient", "wss")
muxClient = _Client("yamux", "gateway.service.endpoints.muxClient")
standardIOClient = _Client("stdio", "gateway.service.endpoints.standardIOClient")
tunnelClient = _Client("tunnel", "gateway.service.agent.tunnelendpoints.tunnelClient")
webSocketServer = _Server("ws", "gateway.service.endpoints.webSocketServer")
muxServer = _Server("yamux", "gateway.service.endpoints.muxServer")
tunnelServer = _Server("tunnel", "gateway.service.agent.tunnelendpoints.tunnelServer")
