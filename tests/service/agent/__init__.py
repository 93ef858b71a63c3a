"""
Tests of L{gateway.service.agent}.
"""
