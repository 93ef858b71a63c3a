"""
PostgreSQL's clients and its server, with a gateway between.
"""

from __future__ import annotations

import os
import re

from tests.interop.running import program, start
from tests.interop.tunnels import TunnelTestCase
from tests.processes import HERE, freePort

USER = "postgres"


class PostgreSQLTests(TunnelTestCase):
    """At a TCP port, as a database is published."""

    def setUp(self) -> None:
        super().setUp()
        for name in ("psql", "pgbench", "postgres", "initdb"):
            program(name)
        folder, port = self.folder / "database", freePort()
        folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(folder, *_userIDs())  # the server does not run as root
        initdb = start(
            self, program("initdb"), "--pgdata", str(folder), "--auth", "trust", "--username", USER, "--no-sync",
            "--no-locale", "--encoding", "UTF8", user=USER,
        )  # fmt: skip
        self.assertEqual(initdb.process.wait(self.deadline), 0, initdb.log())
        settings = {"listen_addresses": HERE, "unix_socket_directories": "", "fsync": "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        server = start(self, program("postgres"), "-D", str(folder), "-p", str(port), *options, user=USER)
        server.awaitPort(port)
        agent = self.agent(self.gateway(), "--tcp", f"db:0={HERE}:{port}")
        self.options = ("--host", HERE, "--port", str(agent.port("db")), "--username", USER)

    def psql(self, statement: str) -> str:
        """Run a statement."""
        return self.call("psql", "--no-psqlrc", *self.options, "--no-align", "--tuples-only", "--command", statement)

    def test_psql(self) -> None:
        """Statements are answered, and much goes in and comes out."""
        self.psql("CREATE TABLE t (n int, words text)")
        rows = "".join(f"{number}\t{'word ' * 40}\n" for number in range(50_000))
        self.call("psql", "--no-psqlrc", *self.options, "--command", r"\copy t FROM STDIN", text=rows)
        self.assertEqual(self.psql("SELECT count(*), sum(n), sum(length(words)) FROM t"), "50000|1249975000|10000000\n")
        self.assertEqual(self.psql(r"\copy (SELECT * FROM t ORDER BY n) TO STDOUT"), rows)

    def test_pgbench(self) -> None:
        """Eight clients with a connection for each transaction all get what they ask for."""
        self.call("pgbench", *self.options, "--initialize", "--quiet", "postgres")
        for more in ((), ("--connect",)):
            report = self.call(
                "pgbench", *self.options, *more, "--client", "8", "--jobs", "2", "--transactions", "25", "postgres"
            )
            self.assertIn("number of transactions actually processed: 200/200", report)
            failed = re.search(r"number of failed transactions: (\d+)", report)
            self.assertEqual(failed and failed[1], "0")


def _userIDs() -> tuple[int, int]:
    """The numbers of the user and group that the package makes."""
    from pwd import getpwnam

    entry = getpwnam(USER)
    return entry.pw_uid, entry.pw_gid
