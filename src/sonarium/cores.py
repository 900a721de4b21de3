"""Number of cores that this process may use, and size of the memory."""

import math
import os


def usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux reports an affinity
        return os.cpu_count() or 1


def memory() -> float:
    """Physical memory in bytes; infinite if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # Windows
        return math.inf
