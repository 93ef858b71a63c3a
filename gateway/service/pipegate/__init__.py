"""
PipeGate's users: its server and its client, by our means.
"""
