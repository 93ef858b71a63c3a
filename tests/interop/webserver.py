"""
nginx as an origin: files to get and to put, and a log that says who came::

    nginx = startNginx(self, self.folder / "web", "listen 127.0.0.1:8080;")
    nginx.visitors()        # ["203.0.113.7"]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.running import Running, program, start
from tests.processes import eventually

__all__ = ["Nginx", "startNginx"]

_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log {folder}/access.log combined;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    server {{
        {server}
        root {folder}/files;
        dav_methods PUT;
    }}
}}
"""


@dataclass(slots=True)
class Nginx(Running):
    """
    @ivar folder: its own.
    @ivar files: what it serves, and where uploads go.
    """

    folder: Path

    @property
    def files(self) -> Path:
        return self.folder / "files"

    def visitors(self, count: int) -> list[str]:
        """The addresses of those whose requests were answered, as soon as they are so many."""
        found: list[str] = []

        def areThere() -> bool:
            found[:] = [line.split()[0] for line in (self.folder / "access.log").read_text().splitlines()]
            return len(found) >= count

        if not eventually(areThere):
            raise AssertionError(f"{found}, and no {count}")
        return found


def startNginx(test: SynchronousTestCase, folder: Path, port: int, server: str) -> Nginx:
    """
    Start it, and wait until it listens.

    @param folder: which it gets for itself.
    @param port: where it listens, as C{server} says.
    @param server: lines for its C{server} block.
    """
    (folder / "files").mkdir(parents=True)
    configuration = folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, server=server))
    running = start(test, program("nginx"), "-c", str(configuration), "-p", str(folder), "-e", "stderr")
    running.awaitPort(port)
    return Nginx(running.process, running._log, folder)
