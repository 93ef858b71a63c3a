"""
Tests of the network relay and its ends with programs of others.
"""
