"""
The Tabby gateway: Tabby Web's door, and what it needs.
"""
