"""
Attached agents for tests of what is decided about them::

    agent = FakeAttachment("alice", replica="a")
"""

from __future__ import annotations

from dataclasses import dataclass, field

from zope.interface import implementer

from gateway.domain.attachment import IAttachment
from gateway.domain.grant import EVERYTHING, Grant


@implementer(IAttachment)
@dataclass(eq=False)
class FakeAttachment:
    """A session of an agent, without anything behind it."""

    agent: str
    replica: str = ""
    grant: Grant = field(default=EVERYTHING)
    load: int = 0
