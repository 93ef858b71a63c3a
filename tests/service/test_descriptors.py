"""Tests for L{gateway.service.descriptors}."""

import resource

from gateway.service.descriptors import raiseDescriptorLimit
from tests.service.tabby.tabbyfixture import GatewayTestCase


class DescriptorTests(GatewayTestCase):
    """L{raiseDescriptorLimit}."""

    def limits(self, soft: int, hard: int) -> list[tuple[int, int]]:
        """Pretend that the process has these limits, and return those that are set."""
        taken: list[tuple[int, int]] = []
        self.patch(resource, "getrlimit", lambda kind: (soft, hard))
        self.patch(resource, "setrlimit", lambda kind, limits: taken.append(limits))
        return taken

    def test_raises(self) -> None:
        """The soft limit becomes the hard one."""
        taken = self.limits(1024, 4096)
        raiseDescriptorLimit(4096)
        self.assertEqual((taken, self.events), ([(4096, 4096)], []))

    def test_warns(self) -> None:
        """One descriptor less than needed is a warning with both numbers."""
        self.limits(1024, 4095)
        raiseDescriptorLimit(4096)
        (event,) = self.logged("gateway.few-descriptors")
        self.assertEqual((event["limit"], event["needed"]), (4095, 4096))

    def test_noLimit(self) -> None:
        """No limit at all is enough."""
        self.limits(1024, resource.RLIM_INFINITY)
        raiseDescriptorLimit(4096)
        self.assertEqual(self.events, [])

    def test_systemRefuses(self) -> None:
        """Where the system lets nobody raise it, the limit that there is counts."""
        self.limits(1024, resource.RLIM_INFINITY)

        def refuse(kind: int, limits: tuple[int, int]) -> None:
            raise ValueError("not allowed to raise maximum limit")

        self.patch(resource, "setrlimit", refuse)
        raiseDescriptorLimit(4096)
        self.assertEqual(self.logged("gateway.few-descriptors")[0]["limit"], 1024)
