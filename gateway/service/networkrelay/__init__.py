"""
http-network-relay's users: its relay, its edge agent and its access client, by our means.
"""
