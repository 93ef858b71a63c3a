"""
The agent: what attaches to a gateway, and leads its visitors to origins or to protocols of this process.
"""
