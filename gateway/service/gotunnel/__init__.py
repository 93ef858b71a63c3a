"""
go-tunnel's users: its server and its agent, by our means.
"""
