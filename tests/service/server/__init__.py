"""
Tests of L{gateway.service.server}.
"""
