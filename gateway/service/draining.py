"""
Waiting for the last ones to leave, but not for ever.

A service that stops gives those whom it serves some time, and a second Ctrl-C takes it from them::

    draining = Draining(reactor)
    with draining.hurriedBySignals():
        await draining.wait(seconds, vacancy.awaited())     # a Deferred; also over when time is up, or patience
"""

__all__ = ["Draining", "IReactorDraining", "Vacancy"]

import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger


class IReactorDraining(IReactorTime, IReactorFromThreads):
    """What this needs of a reactor."""


class Vacancy:
    """
    Tells when nobody is left.

    @param present: those who are not gone yet.
    """

    def __init__(self, present: Collection[object]) -> None:
        self._present = present
        self._waiting: list[Deferred[None]] = []

    def awaited(self) -> Deferred[None]:
        """
        @return: fires when nobody is left, which may be now.
        """
        vacant: Deferred[None] = Deferred()
        self._waiting.append(vacant)
        self.left()
        return vacant

    def left(self) -> None:
        """Somebody has left."""
        if not self._present:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)


class Draining:
    """The waits of one process."""

    _log = Logger()

    def __init__(self, reactor: IReactorDraining) -> None:
        self._reactor = reactor
        self._waiting: list[Deferred[None]] = []

    @contextmanager
    def hurriedBySignals(self) -> Iterator[None]:
        """
        SIGINT and SIGTERM are for us meanwhile: the reactor is stopping already, and would only complain.
        """
        before = {each: signal.signal(each, self._signalled) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler or signal.SIG_DFL)  # None: not installed from Python

    def _signalled(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self.hurry)

    def hurry(self) -> None:
        """Whoever asked for the end has lost patience: the present waits are over."""
        for waiting in tuple(self._waiting):
            self._end(waiting)

    def _end(self, waiting: Deferred[None]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            waiting.callback(None)

    async def wait(self, seconds: float, over: Deferred[Any]) -> None:
        """
        @param over: fires when there is nothing left to wait for. It is not cancelled when time is up. A failure is
            only logged: what comes after it is to be stopped all the same.
        """
        over.addErrback(lambda failure: self._log.failure("something does not stop", failure, event="gateway.defect"))
        if seconds <= 0 or over.called:
            return
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        timer = self._reactor.callLater(seconds, self._end, waiting)
        # Not in here: the last one may be leaving in the middle of what it received, and the reactor, once all has
        # stopped, closes every connection beneath it.
        over.addBoth(lambda result: timer.reset(0) if timer.active() else None)
        await waiting
        if timer.active():
            timer.cancel()
