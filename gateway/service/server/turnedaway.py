"""
One line in the log for a connection of which nothing became::

    turnedAway("tls", visitor.host, "nobody serves app.example.com")
    Peek(decide, partial(turnedAway, "tls", visitor.host), clock=reactor)
"""

__all__ = ["turnedAway"]

from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.service.listening import explain

_log = Logger()


def turnedAway(door: str, host: str, problem: str | Exception) -> None:
    """
    @param door: which one, by its name in C{gateway.toml}.
    @param problem: why; what is not worth a line, such as a peer that just left, makes none.
    """
    text = problem if isinstance(problem, str) else explain(Failure(problem))
    if text is not None:
        _log.info(
            "{door}: nothing for {visitor}: {problem}", event="door.refused", door=door, visitor=host, problem=text
        )
