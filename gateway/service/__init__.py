"""Assembly: options, configuration, and the doors wired to decisions and destinations."""

__all__: list[str] = []
