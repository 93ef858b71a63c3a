"""
Tests of L{gateway.service.pipegate}.
"""
