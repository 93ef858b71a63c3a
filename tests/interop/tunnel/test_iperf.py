"""
iperf3 through a gateway: a stream that steers, and others beside it that are as fast as they can be.
"""

from __future__ import annotations

import json

from tests.interop.running import program, start
from tests.interop.tunnels import TunnelTestCase
from tests.processes import HERE, freePort


class IperfTests(TunnelTestCase):
    """At a TCP port."""

    def test_bothDirections(self) -> None:
        """One stream and eight, up and down, run to their end, and every stream carries something."""
        port = freePort()
        start(self, program("iperf3"), "--server", "--bind", HERE, "--port", str(port)).awaitPort(port)
        agent = self.agent(self.gateway(), "--tcp", f"iperf:0={HERE}:{port}")
        public = str(agent.port("iperf"))
        for options in ([], ["--reverse"], ["--parallel", "8"], ["--parallel", "8", "--reverse"]):
            text = self.call("iperf3", "--json", "--client", HERE, "--port", public, "--time", "1", *options)
            end = json.loads(text)["end"]
            self.assertTrue(all(each["receiver"]["bytes"] > 0 for each in end["streams"]), end["streams"])
