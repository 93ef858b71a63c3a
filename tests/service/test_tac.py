"""Tests for the files in C{tac/}: each can be loaded as it is."""

import os
from pathlib import Path

from twisted.application.service import IServiceCollection, loadApplication
from twisted.logger import ILogObserver
from twisted.trial.unittest import SynchronousTestCase

_DIRECTORY = Path(__file__).resolve().parents[2] / "tac"


class TacTests(SynchronousTestCase):
    """Every C{tac/*.tac}."""

    def setUp(self) -> None:
        self.patch(
            os,
            "environ",
            {
                **os.environ,
                "TABBY_AUTH_TOKEN": "x",
                "GATEWAY_SECRET": "x",
                "HTTP_NETWORK_RELAY_SECRET": "x",
                "GATEWAY_AGENTS_PLAIN_LISTEN": "127.0.0.1:0",
                "HTTP_NETWORK_RELAY_CREDENTIALS_FILE": self._credentials(),
                "PIPEGATE_CLIENT_TOKEN": "x",
            },
        )
        self.paths = sorted(_DIRECTORY.glob("*.tac"))
        self.assertTrue(self.paths)

    def _credentials(self) -> str:
        path = Path(self.mktemp())
        path.write_text("{}")
        return str(path)

    def test_loads(self) -> None:
        """It makes an application with at least one service and a log observer, and opens nothing."""
        for path in self.paths:
            application = loadApplication(str(path), "python")
            self.assertTrue(list(IServiceCollection(application)), path.name)
            self.assertIsNotNone(ILogObserver(application, None), path.name)

    def test_isShort(self) -> None:
        """It has at most 25 lines, and its docstring says how to run it."""
        for path in self.paths:
            text = path.read_text()
            self.assertLessEqual(len(text.splitlines()), 25, path.name)
            self.assertIn(f"twistd -ny tac/{path.name}", text)
