"""
A network relay as an application file; run it with: twistd -ny tac/network_relay.tac

It reads credentials.json here. Change the options below, which are those of `gateway network-relay --help`.
"""

from twisted.application.service import Application
from twisted.logger import ILogObserver

from gateway.service.logs import chooseObserver
from gateway.service.network_relay_tap import Options, makeService

options = Options()
options.parseOptions(["--host", "127.0.0.1", "--port", "8000"])

application = Application("network-relay")
application.setComponent(ILogObserver, chooseObserver())
makeService(options).setServiceParent(application)
