"""
Endpoint strings of ours, for C{clientFromString} and C{serverFromString} of Twisted, and so for every program that
takes such strings::

    clientFromString(reactor, "wss://gw.example/ssh:ca=authority.pem")
    serverFromString(reactor, "yamux:ws:tcp:9000:interface=127.0.0.1:path=/relay")

C{twisted/plugins/gateway_endpoints.py} says which of these functions reads which string. C{docs/reference/endpoints.md}
tells people what they can write.
"""

__all__ = [
    "clientEndpoint",
    "muxClient",
    "muxServer",
    "shown",
    "standardIOClient",
    "unusable",
    "webSocketClient",
    "webSocketServer",
]

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import IStreamClientEndpoint

from gateway.net.dial import HostEndpoint, IReactorDial
from gateway.net.muxendpoints import MuxClientEndpoint, MuxServerEndpoint
from gateway.net.stdio import IReactorStdio, StandardIOEndpoint
from gateway.net.tls import CertificateError
from gateway.net.tlsclient import ClientTrust, TLSClientEndpoint, clientConnectionCreator
from gateway.net.websocketendpoints import WebSocketClientEndpoint, WebSocketServerEndpoint
from gateway.net.websocketlimits import WebSocketSettings
from gateway.wire.upgraderequest import parseWebSocketURL


def _quoted(text: str) -> str:
    return "".join(f"\\{each}" if each in "\\:=" else each for each in text)


def _string(arguments: Sequence[str], options: Mapping[str, str]) -> str:
    """The inner string that was taken apart. Options come last, which makes no difference."""
    kind = arguments[0].lower() if arguments else ""
    if kind in ("", "stdio"):
        raise ValueError("another endpoint comes inside, such as tcp:9000" + (", and not stdio:" if kind else ""))
    pairs = [f"{_quoted(name)}={_quoted(value)}" for name, value in options.items()]
    return ":".join([*map(_quoted, arguments), *pairs])


def webSocketClient(reactor: IReactorDial, scheme: str, *arguments: str, **options: str) -> WebSocketClientEndpoint:
    """
    C{ws://HOST[:PORT]/PATH} and C{wss://}. An equals sign in it is written C{\\=}, as in any endpoint string.

    @param scheme: what was before the first colon.
    @param options: C{timeout}, C{protocol}; with C{wss} also C{ca}, C{pin}, C{certificate} and C{key}.
    @raise ValueError: in one line.
    @raise gateway.net.tls.CertificateError: when a file cannot be used.
    """
    if not arguments:
        raise ValueError("in a URL, write = as \\=")  # the whole of it was taken for an option
    isSecure, host, port, request = parseWebSocketURL(":".join((scheme, *arguments)))
    timeout = _seconds(options.pop("timeout", "20"))
    if protocol := options.pop("protocol", None):
        request = replace(request, subprotocols=(protocol,))
    trust = ClientTrust(
        authorities=options.pop("ca", None),
        pin=options.pop("pin", None),
        certificate=options.pop("certificate", None),
        key=options.pop("key", None),
    )
    if not isSecure and trust != ClientTrust():
        raise ValueError("ca, pin, certificate and key are for wss://")
    if options:
        raise ValueError(f"there is no option {shown(next(iter(options)))!a}; in a URL, write = as \\=")
    carrier: IStreamClientEndpoint = HostEndpoint(reactor, host, port, timeout=timeout)
    if isSecure:
        clientConnectionCreator(host, trust)  # now, so that a file that cannot be used is noticed
        carrier = TLSClientEndpoint(reactor, carrier, host, trust)
    return WebSocketClientEndpoint(reactor, carrier, request, settings=WebSocketSettings(handshakeTimeout=timeout))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
        if not 0 < seconds <= 1e9:
            raise ValueError
    except ValueError:
        raise ValueError(f"timeout: {text!a} is not a number of seconds") from None
    return seconds


def webSocketServer(reactor: Any, *arguments: str, **options: str) -> WebSocketServerEndpoint:
    """
    C{ws:} and an endpoint to listen on for WebSockets.

    @param options: C{path} and C{protocol}; others are the inner endpoint's.
    @raise ValueError: in one line; or whatever the inner string raises.
    """
    if arguments and arguments[0].startswith("//"):
        raise ValueError("ws:// is for connecting; to listen, write for example ws:tcp:9000:path=/relay")
    path, protocol = options.pop("path", "/"), options.pop("protocol", None)
    if not path.startswith("/"):
        raise ValueError(f"path: {path!a} does not begin with a slash")
    inner = serverFromString(reactor, _string(arguments, options))
    return WebSocketServerEndpoint(reactor, inner, path=path, subprotocols=(protocol,) if protocol else ())


def muxClient(reactor: Any, *arguments: str, **options: str) -> MuxClientEndpoint:
    """
    C{yamux:} and an endpoint to dial for sessions.
    """
    return MuxClientEndpoint(reactor, clientFromString(reactor, _string(arguments, options)))


def muxServer(reactor: Any, *arguments: str, **options: str) -> MuxServerEndpoint:
    """
    C{yamux:} and an endpoint to listen on for sessions.
    """
    return MuxServerEndpoint(reactor, serverFromString(reactor, _string(arguments, options)))


def standardIOClient(reactor: IReactorStdio, *arguments: str) -> StandardIOEndpoint:
    """
    C{stdio:}; there is one connection to it.
    """
    return StandardIOEndpoint(reactor)


def shown(description: str) -> str:
    """
    An endpoint string as logs and errors may show it: the query of a URL may hold a secret, and so may what it has
    before the host, which no URL of ours has.
    """
    # A colon ends the query only where an option follows.
    hidden = re.sub(r"\?(\\.|:(?!\w+=)|[^\\:])*", "?...", description)
    return re.sub(r"//[^/?]*@", "//...@", hidden)


_WORDS = {
    r"invalid literal for int\(\) with base 10: (.*)": r"\1 is not a whole number",
    r"missing \d+ required positional arguments?: (.*)": r"it lacks \1",
    r"unexpected keyword argument (.*)": r"it has no option \1",
    r"unrecognized keyword arguments present', \[(.*)\]": r"it has no option \1",
}
"""What Twisted's own parsers of endpoint strings mean, which say it in the words of Python."""


def unusable(description: str, error: Exception) -> ValueError:
    """
    @param error: what parsing an endpoint string raised: plugins raise what they like.
    @return: what to tell a person, in one line.
    """
    text = str(error)
    problem = text if isinstance(error, ValueError | CertificateError) else f"{type(error).__name__}: {text}"
    for found, meaning in _WORDS.items():
        if match := re.search(found, text):
            problem = match.expand(meaning)
    return ValueError(f"the endpoint {shown(description)!a} cannot be used: {problem}")


def clientEndpoint(reactor: object, description: str) -> IStreamClientEndpoint:
    """
    @param description: in Twisted's endpoint syntax, e.g. C{tcp:127.0.0.1:22}.
    @raise ValueError: in one line, when it is not one.
    """
    try:
        endpoint: IStreamClientEndpoint = clientFromString(reactor, description)
        return endpoint
    except Exception as e:
        raise unusable(description, e) from e
