"""
Tests of L{gateway.service.relay}.
"""
