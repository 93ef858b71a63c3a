"""
A site of twisted.web behind a gateway; run it with: GATEWAY_SECRET=... twistd -ny tac/twisted_web_behind_tunnel.tac

Only the endpoint knows that there is a gateway: change it below, or set ENDPOINT.
"""

import os

from twisted.application.service import Application
from twisted.application.strports import service
from twisted.logger import ILogObserver
from twisted.web.server import Site
from twisted.web.static import Data

from gateway.service.logs import chooseObserver

endpoint = os.environ.get("ENDPOINT", r"tunnel:app.example.com:via=wss\://gw.example.com/agent:agent=app")
page = Data(b"Hello from behind the tunnel.\n", "text/plain")
page.isLeaf = True

application = Application("site")
application.setComponent(ILogObserver, chooseObserver())
service(endpoint, Site(page)).setServiceParent(application)
