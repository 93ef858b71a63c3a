"""
What an agent logs of visitors, in a dialect that does not tell it who they are::

    visitFailed(self._log, "app.example.com", "The connection was refused.")
    visitClosed(self._log, "app.example.com", outcome)
"""

__all__ = ["visitClosed", "visitFailed"]

from twisted.logger import Logger

from gateway.net.relay import Outcome


def visitFailed(log: Logger, to: str, problem: str) -> None:
    """A visitor could not reach an origin or a target."""
    log.info(
        "a visitor could not reach {to}: {problem}",
        event="agent.visit-failed",
        to=to,
        visitor="?",
        visit="",
        problem=problem,
    )


def visitClosed(log: Logger, to: str, outcome: Outcome) -> None:
    """A visitor that did reach one has left it."""
    log.info(
        "a visitor left {to}: {cause}",
        event="agent.visit-closed",
        to=to,
        visitor="?",
        visit="",
        cause=outcome.cause,
        up=outcome.up,
        down=outcome.down,
        seconds=outcome.seconds,
    )
