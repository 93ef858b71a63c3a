"""
A relay as an application file; run it with: twistd -ny tac/relay.tac

Change the options below, which are those of `gateway relay --help`.
"""

from twisted.application.service import Application
from twisted.logger import ILogObserver

from gateway.service.logs import chooseObserver
from gateway.service.relay_tap import Options, makeService

options = Options()
options.parseOptions(["--listen", "ws:tcp:9000:interface=127.0.0.1", "--to", "tcp:127.0.0.1:22"])

application = Application("relay")
application.setComponent(ILogObserver, chooseObserver())
makeService(options).setServiceParent(application)
