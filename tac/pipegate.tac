"""
PipeGate's server as an application file; run it with: PIPEGATE_CLIENT_TOKEN=... twistd -ny tac/pipegate.tac

Change the options below, which are those of `gateway pipegate-server --help`.
"""

from twisted.application.service import Application
from twisted.logger import ILogObserver

from gateway.service.logs import chooseObserver
from gateway.service.pipegate_server_tap import Options, makeService

options = Options()
options.parseOptions(["--port", "8000", "--interface", "127.0.0.1", "--access-log", "-"])

application = Application("pipegate-server")
application.setComponent(ILogObserver, chooseObserver())
makeService(options).setServiceParent(application)
