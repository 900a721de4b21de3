"""Rooms: what is heard in them, and the environments `sonarium/Seek-v0` and `sonarium/SeekVector-v0`.

To import this registers the environments with Gymnasium; acoustics are imported when one is made.
"""

import gymnasium

SEEK = "sonarium/Seek-v0"
SEEK_VECTOR = "sonarium/SeekVector-v0"


def register(name: str) -> None:
    """Both names make one room by `gymnasium.make`, and many at once by `gymnasium.make_vec`."""
    if name not in gymnasium.registry:
        gymnasium.register(
            name,
            entry_point="sonarium.rooms.seek:Seek",
            vector_entry_point="sonarium.rooms.vector:SeekVector",
        )


register(SEEK)
register(SEEK_VECTOR)
