"""
What a person sees: the real Tabby app in a real browser opens an SSH session through the gateway.

Everything is as in use, except for the SSH server, whose shell obeys the tests, and for the connector, which Tabby Web
keeps to itself (C{page/connector.js} behaves as that one does). To see what the same tests make of the original::

    TABBY_GATEWAY=original trial tests.browser
"""

import os
from pathlib import Path
from typing import cast
from urllib.parse import urlencode

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase
from twisted.web.server import Site
from twisted.web.static import File

from tests.browser.chromium import PEERS, Page, requireBrowser
from tests.browser.sshtarget import GREETING, PASSWORD, USER, CounterTarget, SSHTarget
from tests.interop.gateways import ORIGINAL, OURS, start
from tests.peers import require
from tests.processes import HERE, freePort

_TOKEN = "the right token"
_ORIGINAL = os.environ.get("TABBY_GATEWAY") == "original"
_PAGE = Path(__file__).with_name("page")


class TabbyAppTests(TestCase):
    """
    The app, the gateway and a target.
    """

    timeout = 120

    def setUp(self) -> None:
        """Nothing is started before it is known that everything is there."""
        requireBrowser()
        self.program = ORIGINAL if _ORIGINAL else OURS
        require(self.program.installed, f"{self.program.command[0]} is missing: make test installs it")

    async def listen(self, factory: IProtocolFactory) -> int:
        """Serve on a free port of the loopback address until the test ends."""
        port = await TCP4ServerEndpoint(reactor, 0, interface=HERE).listen(factory)
        self.addCleanup(port.stopListening)
        return cast(IPv4Address, port.getHost()).port

    async def openApp(self, *options: str, token: str = _TOKEN) -> Page:
        """
        Start the gateway and a browser with the app in it.

        @param options: more of the gateway's options.
        @param token: the one that the person has put into the app's settings.
        """
        gateway = start(self.program, ["--token-auth", *options], env={"TABBY_AUTH_TOKEN": _TOKEN})
        self.addCleanup(gateway.stop)
        app = File(str(_PAGE))
        app.contentTypes = {**File.contentTypes, ".mjs": "text/javascript"}
        app.putChild(b"modules", File(str(PEERS / "node_modules")))
        site = await self.listen(Site(app))
        page = Page.launch(reactor)
        self.addCleanup(page.close)
        query = urlencode({"gateway": f"ws://{HERE}:{gateway.address[1]}", "token": token})
        await page.open(f"http://{HERE}:{site}/index.html?{query}")
        return page

    async def openSSH(self, page: Page, port: int) -> None:
        """Open a tab with an SSH session to a port of this machine."""
        options = {"host": HERE, "port": port, "user": USER, "password": PASSWORD}
        await page.evaluate("options => tabby.openSSH(options)", options)

    async def test_typedCommand(self) -> None:
        """A command that is typed reaches the target, and its output appears in the terminal."""
        page = await self.openApp()
        await self.openSSH(page, await self.listen(SSHTarget()))
        await page.read(GREETING)
        await page.type("print it works\n")
        await page.read("IT WORKS")

    async def test_manyLines(self) -> None:
        """Output much longer than a window of SSH or a frame arrives whole in the terminal."""
        page = await self.openApp()
        await self.openSSH(page, await self.listen(SSHTarget()))
        await page.read(GREETING)
        await page.type("count 200000\n")
        text = await page.read("counted")
        numbers = [int(line) for line in text.splitlines() if line.isdigit()]
        self.assertGreater(len(numbers), 500)
        self.assertEqual(numbers, list(range(numbers[0], 200000)))

    async def test_wrongToken(self) -> None:
        """A person with a wrong token reads that it is the token."""
        page = await self.openApp(token="the wrong token")
        await self.openSSH(page, await self.listen(SSHTarget()))
        text = await page.read(" X ")
        self.assertIn("token", text)

    async def test_refusedConnection(self) -> None:
        """A person whose target does not listen reads that the connection was refused."""
        page = await self.openApp()
        await self.openSSH(page, freePort())
        text = await page.read(" X ")
        self.assertIn("refused", text)

    async def test_refusedTarget(self) -> None:
        """A person who may not reach a target reads that, and by which rule."""
        port = await self.listen(SSHTarget())
        page = await self.openApp("--deny", f"{HERE}:{port}")
        await self.openSSH(page, port)
        text = await page.read(" X ")
        self.assertIn(f"deny {HERE}:{port}", text)

    async def test_targetCloses(self) -> None:
        """A person whose target goes away in the middle of a session reads that it did."""
        page = await self.openApp()
        await self.openSSH(page, await self.listen(SSHTarget()))
        await page.read(GREETING)
        await page.type("close\n")
        await page.read("Connection closed by remote host")

    async def test_targetResets(self) -> None:
        """A person whose target breaks the connection reads that it did."""
        page = await self.openApp()
        await self.openSSH(page, await self.listen(SSHTarget()))
        await page.read(GREETING)
        await page.type("reset\n")
        await page.read("Connection reset")

    async def test_counters(self) -> None:
        """64 MiB reach the page in order and whole, up to the last byte, which the target's end follows at once."""
        port = await self.listen(Factory.forProtocol(CounterTarget))
        page = await self.openApp()
        result = await page.evaluate("target => tabby.readCounters(target)", {"host": HERE, "port": port})
        self.assertEqual((result["firstGap"], result["bytes"]), (None, CounterTarget.TOTAL))
        self.assertEqual(result["error"], "Connection closed by remote host")
