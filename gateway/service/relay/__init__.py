"""
The generic relay: from any endpoint to any other.
"""
