"""Bytes to values and back: sans-io, no Twisted, no clock, no logging, no I/O."""

__all__: list[str] = []
