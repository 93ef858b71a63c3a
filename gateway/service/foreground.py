"""
A service in the foreground, as C{twistd --nodaemon} runs it, but for the end::

    app.run(lambda config: ForegroundRunner(config).run(), twistd.ServerOptions)

When all has stopped, twistd sends itself again the signal that it was stopped by, and dies of it. That looks like a
crash to whoever looks at the exit status alone; and as the first process of a container it does not even die. Here a
service that stopped as it was told to has done so well, whatever it was told by.
"""

__all__ = ["ForegroundRunner"]

import gc
import sys

from twisted.application import app
from twisted.application.service import IService


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
        IService(self.application).privilegedStartService()
        app.startApplication(self.application, False)
        self.startReactor(None, sys.stdout, sys.stderr)
