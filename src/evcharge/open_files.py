"""How many files and sockets the machine lets a program have open at once."""

import resource
from contextlib import suppress


def allow_open_files(wanted: int) -> int:
    """Raise the soft limit to `wanted`, or as far as the hard one goes; how many there may be now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with suppress(OSError, ValueError):  # macOS has another limit of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    return min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
