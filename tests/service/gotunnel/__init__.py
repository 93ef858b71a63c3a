"""
Tests of L{gateway.service.gotunnel}.
"""
