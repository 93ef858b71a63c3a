"""
A Tabby gateway as an application file; run it with: TABBY_AUTH_TOKEN=... twistd -ny tac/tabby_gateway.tac

Change the options below, which are those of `gateway tabby --help`.
"""

from twisted.application.service import Application
from twisted.logger import ILogObserver

from gateway.service.logs import chooseObserver
from gateway.service.tabby_tap import Options, makeService

options = Options()
options.parseOptions(["--host", "127.0.0.1", "--port", "9000", "--token-auth"])

application = Application("tabby-gateway")
application.setComponent(ILogObserver, chooseObserver())
makeService(options).setServiceParent(application)
