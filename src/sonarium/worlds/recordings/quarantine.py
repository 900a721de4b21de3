"""Files that cannot be used, each with its reason: set aside, counted, and too many of them refused."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonarium.files import write_whole

TOLD = 50
"""Bad files that are named in one message; the record and `sonarium check` have all."""


@dataclass(frozen=True)
class Fault:
    """A file, or one stretch of it, and what is wrong with it."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Quarantine:
    """What was set aside, of how much."""

    files: int
    """Files that were looked at, good and bad."""
    clips: int
    """Clips that were asked for: files, or stretches of them."""
    faults: tuple[Fault, ...] = ()
    """Bad files, each once."""
    stretches: tuple[Fault, ...] = ()
    """Stretches that good files do not have."""
    remarks: tuple[Fault, ...] = ()
    """Labels that do not fit their file; the file itself is kept."""

    @property
    def share(self) -> float:
        return max(len(self.faults) / max(self.files, 1), len(self.stretches) / max(self.clips, 1))

    def enforce(self, bad_share: float, root: Path) -> None:
        """Refuse the whole if more than this share is bad, or nothing is left."""
        if len(self.faults) == self.files or len(self.stretches) == self.clips:
            raise ValueError(f"'{root}' has no sound that can be used: {self.told() or 'it is empty'}")
        if self.share > bad_share:
            clips = f", and {len(self.stretches)} of {self.clips} clips," if self.stretches else ""
            raise ValueError(
                f"{len(self.faults)} of {self.files} files{clips} in '{root}' are bad ({self.share:.1%}, allowed "
                f"are {bad_share:.1%}): {self.told()}; mend or remove them, or give a larger --bad-share"
            )

    def told(self) -> str:
        """What is bad, in one line."""
        bad = self.faults + self.stretches
        lines = [f"'{fault.path}' {fault.reason}" for fault in bad[:TOLD]]
        more = len(bad) - len(lines)
        return "; ".join(lines) + (f"; and {more} more, which `sonarium check` tells" if more else "")

    def record(self) -> dict[str, Any]:
        """In JSON's terms."""
        return {
            "files": self.files,
            "clips": self.clips,
            "bad_files": as_records(self.faults),
            "bad_clips": as_records(self.stretches),
            "remarks": as_records(self.remarks),
        }

    def write(self, folder: Path) -> None:
        """The record as `quarantine.json` in a run folder."""
        write_whole(folder / "quarantine.json", json.dumps(self.record(), indent=2) + "\n")


def as_records(faults: tuple[Fault, ...]) -> list[dict[str, str]]:
    return [{"path": os.fspath(fault.path), "reason": fault.reason} for fault in faults]
