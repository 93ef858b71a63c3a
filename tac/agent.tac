"""
An agent as an application file; run it with: GATEWAY_SECRET=... twistd -ny tac/agent.tac

Change the options below, which are those of `gateway agent --help`.
"""

from twisted.application.service import Application
from twisted.logger import ILogObserver

from gateway.service.agent_tap import Options, makeService
from gateway.service.logs import chooseObserver

options = Options()
options.parseOptions(
    ["--to", "wss://gw.example.com/agent", "--name", "box", "--http", "app.example.com=127.0.0.1:8080"]
)

application = Application("gateway-agent")
application.setComponent(ILogObserver, chooseObserver())
makeService(options).setServiceParent(application)
