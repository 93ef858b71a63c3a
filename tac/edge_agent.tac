"""
An edge agent as an application file; run it with: HTTP_NETWORK_RELAY_SECRET=... twistd -ny tac/edge_agent.tac

Change the options below, which are those of `gateway edge-agent --help`.
"""

from twisted.application.service import Application
from twisted.logger import ILogObserver

from gateway.service.edge_agent_tap import Options, makeService
from gateway.service.logs import chooseObserver

options = Options()
options.parseOptions(["--relay-url", "wss://relay.example.com/ws_for_edge_agents", "--name", "box"])

application = Application("edge-agent")
application.setComponent(ILogObserver, chooseObserver())
makeService(options).setServiceParent(application)
