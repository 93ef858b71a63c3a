"""
A service in the foreground, as C{twistd --nodaemon} runs it, but for the end::

    app.run(lambda config: ForegroundRunner(config).run(), twistd.ServerOptions)

When all has stopped, twistd sends itself again the signal that it was stopped by, and dies of it. That looks like a
crash to whoever looks at the exit status alone; and as the first process of a container it does not even die. Here a
service that stopped as it was told to has done so well, whatever it was told by, and however often.
"""

__all__ = ["ForegroundRunner", "StopSignals"]

import gc
import signal
import sys
from collections.abc import Callable
from typing import cast

from twisted.application import app
from twisted.application.service import IService
from twisted.internet.interfaces import IReactorFromThreads


class StopSignals:
    """
    What SIGINT and SIGTERM mean while a service runs. Twisted's reactor stops at each of them, and a second one that
    comes before it has begun to is a traceback in the log. Here the first one stops it, and what others mean is up to
    those who stop: L{Draining.hurriedBySignals<gateway.service.draining.Draining.hurriedBySignals>}.

    @param stop: called once, at the first signal.
    """

    def __init__(self, stop: Callable[[], object]) -> None:
        self._stop = stop
        self._came = False

    def take(self) -> None:
        """Have them from now on. A process that ignores SIGINT, as in the background of a shell, still does."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: object) -> None:
        if not self._came:
            self._came = True
            self._stop()


class ForegroundRunner(app.ApplicationRunner):
    """
    Makes the service that the options ask for, starts it, and returns when it has stopped. It has no pid file, changes
    neither user nor directory, and saves nothing.
    """

    def preApplication(self) -> None:
        """Nothing to do."""

    def postApplication(self) -> None:
        """Run the service."""
        # What is there by now, modules above all, stays: to look through it for garbage held up everybody for 50 ms,
        # again and again. Done before anybody is told that we are here.
        gc.collect()
        gc.freeze()
        gc.enable()
        from twisted.internet import reactor

        signals = StopSignals(lambda: cast(IReactorFromThreads, reactor).callFromThread(reactor.stop))
        reactor.callWhenRunning(signals.take)
        IService(self.application).privilegedStartService()
        app.startApplication(self.application, False)
        self.startReactor(reactor, sys.stdout, sys.stderr)
