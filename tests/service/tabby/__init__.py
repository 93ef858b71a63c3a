"""
Tests of L{gateway.service.tabby.visit}.
"""
