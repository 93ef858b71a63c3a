"""
gRPC's own library at both ends: HTTP/2 from the visitor to the gateway, and from the agent to the server.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.interop.http.website import NAME, WebTestCase, peer

_ENDS = Path(__file__).with_name("grpcends.py")


class GrpcTests(WebTestCase):
    """Calls of each kind."""

    def test_calls(self) -> None:
        """One message or many, either way: all arrive, and so do metadata, statuses and cancellations."""
        self.publish(self.grpc(), 'protocol = "h2c"')
        command = [peer("python"), str(_ENDS), "visit", str(self.running.tls), NAME, self.running.authority]
        done = subprocess.run(command, capture_output=True, timeout=self.deadline)
        self.assertEqual(done.returncode, 0, done.stderr.decode()[-4000:])
        self.assertEqual(
            json.loads(done.stdout),
            {
                "unary": "hello",
                "early": "first",
                "late": ["and goodbye", [0, 1, 2]],
                "big": True,
                "fails": ["FAILED_PRECONDITION", "no: 100 % not ✓"],
                "missing": "UNIMPLEMENTED",
                "collects": 100 * 65536,
                "repeats": 1000,
                "converses": ["ONE", "TWO", "THREE"],
                "cancelled": True,
                "after": "still there",
            },
        )
