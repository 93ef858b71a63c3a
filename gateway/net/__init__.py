"""Twisted transports and protocols: they move bytes and know no users and no policy."""

__all__: list[str] = []
