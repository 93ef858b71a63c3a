"""
How many files, and so connections, the process may have open.

Most systems start a process with a soft limit of 1024, which no reactor of ours minds exceeding, and a hard limit far
above it::

    raiseDescriptorLimit(2 * connections + 64)
"""

__all__ = ["raiseDescriptorLimit"]

import resource

from twisted.logger import Logger

_log = Logger()


def raiseDescriptorLimit(needed: int) -> None:
    """
    Let the process open as many files as it may allow itself.

    @param needed: fewer than this are a warning in the log.
    """
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        limit = hard
    except (OSError, ValueError):
        pass  # macOS has limits that no process may set; what there is has to do
    if limit != resource.RLIM_INFINITY and limit < needed:
        _log.warn(
            "the process may open {limit} files, and {needed} may be needed: raise ulimit -n or LimitNOFILE",
            event="gateway.few-descriptors",
            limit=limit,
            needed=needed,
        )
