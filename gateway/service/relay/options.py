"""
The command line of the generic relay::

    options = RelayOptions()
    options.parseOptions(["--listen", "tcp:8000", "--to", "tcp:127.0.0.1:80"])   # UsageError names the option
"""

__all__ = ["RelayOptions", "isStandardIO", "quietJSONObserver", "quietTextObserver"]

import sys

from twisted.logger import FilteringLogObserver, ILogObserver, LogLevel, LogLevelFilterPredicate
from twisted.python import usage

from gateway.service.logs import jsonObserver, textObserver
from gateway.service.options import ServiceOptions


def isStandardIO(description: str) -> bool:
    """Whether an endpoint string stands for standard input and output."""
    return description.rstrip(":").lower() == "stdio"


def _onlyErrors(observer: ILogObserver) -> ILogObserver:
    return FilteringLogObserver(observer, [LogLevelFilterPredicate(defaultLogLevel=LogLevel.error)])


def quietTextObserver() -> ILogObserver:
    """Errors alone, on standard error: the terminal is somebody else's, such as ssh's."""
    return _onlyErrors(textObserver(sys.stderr))


def quietJSONObserver() -> ILogObserver:
    """The same in JSON."""
    return _onlyErrors(jsonObserver(sys.stderr))


class RelayOptions(ServiceOptions):
    """
    All that the relay can be told. After C{parseOptions} the values have their types.

    @ivar listen: what was given for C{--listen}, in order.
    @ivar isOnce: there is one connection, over standard input and output, and the process ends with it.
    @ivar exitStatus: what the process is to end with. Set by the service.
    """

    command = "gateway relay"
    synopsis = "--listen ENDPOINT --to ENDPOINT [options]"
    longdesc = """
    A relay: whoever connects to an endpoint of --listen is connected to the endpoint of --to. Endpoints are written as
    Twisted's, such as tcp:8000:interface=127.0.0.1 and tcp:db.internal:5432; those of this package are ws:, wss:,
    yamux: and stdio:. With stdio: there is one connection, the process ends with it, and it logs only errors. SIGTERM
    lets relays end for up to --drain seconds."""

    optParameters = [
        ["to", None, None, "Endpoint to connect to, e.g. tcp:127.0.0.1:22, wss://gw.example.com/ssh or stdio:"],
        ["dial-timeout", None, "20", "Seconds to connect to it; also those that a client has for its TLS handshake"],
        ["idle-timeout", None, "86400", "Seconds without a byte after which a relay ends; 0: never"],
        ["max-connections", None, "1024", "Connections at once; more are closed as they come"],
        ["drain", None, "10", "Seconds that relays have to end at SIGTERM"],
        ["memory", None, "512", "MiB that may be held for those who do not read"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.listen: list[str] = []
        self.isOnce = False
        self.exitStatus = 0

    def opt_listen(self, endpoint: str) -> None:
        """Endpoint to listen on, e.g. tcp:8000:interface=127.0.0.1, ws:tcp:9000, unix:/run/relay.sock or stdio:. May be
        repeated"""
        self.listen.append(endpoint)

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: in one line that names the option.
        """
        if not self.listen:
            raise usage.UsageError("--listen is required, e.g. --listen tcp:8000:interface=127.0.0.1")
        if self["to"] is None:
            raise usage.UsageError("--to is required, e.g. --to tcp:127.0.0.1:22")
        ends = [*self.listen, self["to"]]
        self.isOnce = any(map(isStandardIO, ends))
        if self.isOnce and (len(self.listen) > 1 or all(map(isStandardIO, ends))):
            raise usage.UsageError("--listen: with stdio: at one end there is one other endpoint")
        self.number("dial-timeout", float, 0.1)
        for name in ("idle-timeout", "drain"):
            self.number(name, float, 0)
        for name in ("max-connections", "memory"):
            self.number(name, int, 1)
        self.chooseLogger()

    def chooseLogger(self) -> None:
        """Where standard output is for payload, all that is said goes to standard error, and that is errors."""
        before = None if self.parent is None else self.parent.get("logger")
        super().chooseLogger()
        if self.isOnce and self.parent is not None and self.parent.get("logger") != before:
            form = "JSON" if self["log-format"] == "json" else "Text"
            self.parent["logger"] = f"gateway.service.relay.options.quiet{form}Observer"
