"""
An agent's live session, as the decisions see it.
"""

__all__ = ["IAttachment"]

from zope.interface import Attribute, Interface


class IAttachment(Interface):
    """One agent's session. Compared by identity."""

    agent = Attribute("The agent's name: that of the identity which it proved.")
    replica = Attribute("Which of several processes of that agent it is.")
    grant = Attribute("What the agent may ask for: a L{Grant<gateway.domain.agents.Grant>}.")
    load = Attribute("How many streams it has open.")
