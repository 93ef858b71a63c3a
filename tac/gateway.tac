"""
A gateway as an application file; run it with: GATEWAY_AGENTS_PLAIN_LISTEN=127.0.0.1:9000 twistd -ny tac/gateway.tac

It reads gateway.toml, if there is one here, and the environment.
"""

from pathlib import Path

from twisted.application.service import Application
from twisted.logger import ILogObserver

from gateway.service.gateway_tap import Options, makeService
from gateway.service.logs import chooseObserver

options = Options()
options.parseOptions(["--config", "gateway.toml"] if Path("gateway.toml").exists() else [])

application = Application("gateway")
application.setComponent(ILogObserver, chooseObserver())
makeService(options).setServiceParent(application)
