"""
What an agent may ask for in the HTTP of one of its services: headers, passwords, limits, compression.

It travels with the L{Service<gateway.wire.agentcontrol.Service>}, and the gateway does it, as it is the gateway that
talks to visitors. All of it comes from somebody who may mean harm, so its size is limited, and nothing in it can end a
line or say how long a message is::

    HttpOptions(setRequestHeaders=(("x-team", "blue"),), requestsPerSecond=50)
    HttpOptions(removeRequestHeaders=("content-length",))        # ValueError

What the words mean is decided in L{gateway.domain.httppolicy}.
"""

__all__ = ["MAX_HEADERS", "MAX_PREFIXES", "MAX_SEGMENTS", "HttpOptions", "Prefix"]

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.wire.http1body import isAuthority

MAX_HEADERS = 32
"""Of each of the four lists."""

MAX_PREFIXES = 64
"""Of one service."""

MAX_SEGMENTS = 8
"""Of one prefix."""

_MESSAGE_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""
They say where a message goes and how it ends, which is for those who send and receive it. Proxy is nobody's, and sets
HTTP_PROXY for what is behind a CGI (CVE-2016-5385).
"""

# Python's $ matches before a line end, too, and so is not used here. Dot segments would not survive a browser.
Prefix = Annotated[str, Meta(pattern=rf"\A(/(?!\.\.?(/|\Z))[A-Za-z0-9._~-]{{1,64}}){{1,{MAX_SEGMENTS}}}\Z")]
"""The beginning of a path, as C{/word} or C{/word/word}; only what is never percent-encoded (RFC 3986, section 2.3)."""

_Name = Annotated[str, Meta(pattern=r"\A[!#$%&'*+.^_`|~0-9a-z-]{1,64}\Z")]
_Value = Annotated[str, Meta(pattern=r"\A([!-~]([\t -~]{0,1022}[!-~])?)?\Z")]
_Names = Annotated[tuple[_Name, ...], Meta(max_length=MAX_HEADERS)]
_Fields = Annotated[tuple[tuple[_Name, _Value], ...], Meta(max_length=MAX_HEADERS)]
_Host = Annotated[str, Meta(max_length=264)]
_User = Annotated[str, Meta(pattern=r"\A[^:\x00-\x1f\x7f]{1,64}:sha256:[0-9a-f]{64}\Z")]
_Rule = Annotated[str, Meta(pattern=r"\A(allow|deny) [!-~]{1,64}\Z")]
_Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class HttpOptions(Struct, frozen=True, omit_defaults=True):
    """
    What is done for one service, to each of its requests and responses. Names of headers are in lower case.

    @ivar protocol: what the origin speaks: HTTP/1.1, or HTTP/2 without TLS.
    @ivar hostHeader: what the origin gets as Host instead of what the visitor asked for; empty: that.
    @ivar basicAuth: who may come, as C{user:sha256:HEX}, the hash being that of the password; empty: everybody.
    @ivar access: rules for visitors' addresses, as C{allow} or C{deny}, a space, and an address, a network or C{*}.
    @ivar setRequestHeaders: name and value, in place of any that the visitor sent.
    @ivar removeRequestHeaders: names.
    @ivar setResponseHeaders: name and value, in place of any that the origin sent.
    @ivar removeResponseHeaders: names.
    @ivar maxBody: bytes of a request's body; 0: as many as the gateway takes.
    @ivar requestsPerSecond: of all visitors, and as many at once; 0: no limit.
    @ivar inFlight: requests at once, of all visitors; 0: as many as the gateway takes.
    @ivar compress: codings that responses may get, the best first.
    @ivar httpsRedirect: whether visitors without TLS are sent to the same place with it; C{None}: as the gateway does.
    @ivar hsts: seconds for which browsers are told to come by TLS alone (RFC 6797); 0: they are not; C{None}: as the
        gateway does.
    @ivar proxyPerVisitor: each connection to the origin begins with a PROXY header, so one is never used for two
        visitors.
    """

    protocol: Literal["http/1.1", "h2c"] = "http/1.1"
    hostHeader: _Host = ""
    basicAuth: Annotated[tuple[_User, ...], Meta(max_length=64)] = ()
    access: Annotated[tuple[_Rule, ...], Meta(max_length=64)] = ()
    setRequestHeaders: _Fields = ()
    removeRequestHeaders: _Names = ()
    setResponseHeaders: _Fields = ()
    removeResponseHeaders: _Names = ()
    maxBody: _Count = 0
    requestsPerSecond: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    inFlight: _Count = 0
    compress: Annotated[tuple[Literal["gzip", "zstd"], ...], Meta(max_length=2)] = ()
    httpsRedirect: bool | None = None
    hsts: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    proxyPerVisitor: bool = False

    def __post_init__(self) -> None:
        """
        @raise ValueError: a header is none of an agent's business, or a host is none.
        """
        if self.hostHeader and not isAuthority(self.hostHeader):
            raise ValueError("The field hostHeader is a host, or a host and a port")
        fields = (*self.setRequestHeaders, *self.setResponseHeaders)
        for name in (*(name for name, _ in fields), *self.removeRequestHeaders, *self.removeResponseHeaders):
            if name in _MESSAGE_HEADERS:
                raise ValueError(f"The header {name} is not for services to change")
