"""
Tests for the network relay and its clients.
"""
