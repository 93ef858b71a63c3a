"""Decisions: identities and tokens, target policy, limits. Opens no sockets."""

__all__: list[str] = []
