"""
What the command lines of all our services have in common::

    class Options(ServiceOptions):
        optParameters = [["drain", None, "10", "Seconds ..."]]

        def postOptions(self) -> None:
            self.number("drain", float, 0)
            self.chooseLogger()
"""

__all__ = ["CommandOptions", "ServiceOptions", "installed"]

import os
import sysconfig
from collections.abc import Callable
from typing import NoReturn

from twisted.python import usage

from gateway import __version__

_OBSERVERS = {
    "auto": "gateway.service.logs.chooseObserver",
    "text": "gateway.service.logs.textObserver",
    "json": "gateway.service.logs.jsonObserver",
}


def installed(program: str) -> str:
    """Where a program is that came with this one, as in a virtual environment no shell would find it."""
    path = os.path.join(sysconfig.get_path("scripts"), program)
    return path if os.path.exists(path) else program


class CommandOptions(usage.Options):
    """
    Options of a command of ours, whose help is laid out well.

    @cvar command: the words that it is called by, for the first line of its help.
    """

    command = "gateway"
    synopsis = "[options]"
    longdesc = ""

    def __init__(self) -> None:
        super().__init__()
        # The texts of repeated options are docstrings, with the line breaks and indents of the source.
        self.docs = {name: " ".join(text.split()) for name, text in self.docs.items()}
        self.longdesc = " ".join(self.longdesc.split())

    def opt_version(self) -> NoReturn:
        """Show the version and exit."""
        print(f"txgateway {__version__}")
        raise SystemExit(0)

    def getSynopsis(self) -> str:
        """The first line of the help, whichever program it is that runs us."""
        parent = self.parent
        if parent is None or isinstance(parent, CommandOptions):
            return f"Usage: {self.command} {self.synopsis}"
        synopsis: str = super().getSynopsis()
        return synopsis


class ServiceOptions(CommandOptions):
    """
    Options of a service, whose errors name the option.
    """

    optParameters: list[list[str | None]] = [
        ["log-format", None, "auto", "text, json, or auto: text on a terminal, JSON lines otherwise"]
    ]

    def number(self, name: str, kind: Callable[[str], float], low: float, high: float = 1e9) -> None:
        """
        Turn an option's text into a number.

        @param kind: C{int} or C{float}.
        @raise usage.UsageError: when it is none, or outside the bounds.
        """
        try:
            value = kind(self[name])
            if not low <= value <= high:
                raise ValueError
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise usage.UsageError(f"--{name}: {self[name]!a} is not {what} from {low:g} to {high:g}") from None
        self[name] = value

    def chooseLogger(self) -> None:
        """
        Tell twistd, which runs the service, where logs go, unless its own options did.

        @raise usage.UsageError: for a format that there is not.
        """
        form = self["log-format"]
        if form not in _OBSERVERS:
            raise usage.UsageError("--log-format: choose auto, text or json")
        runner = self.parent
        if runner is not None and not any(runner.get(key) for key in ("logger", "logfile", "syslog")):
            runner["logger"] = _OBSERVERS[form]
