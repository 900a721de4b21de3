"""Worlds by name, until the lazy catalogue takes this file's place."""

from sonarium.worlds.contract import WorldEntry
from sonarium.worlds.digits import DIGITS
from sonarium.worlds.recordings.world import RECORDINGS
from sonarium.worlds.tones.syntone import SYNTONE_FILE
from sonarium.worlds.tones.world import TONES

WORLDS: dict[str, WorldEntry] = {
    "tones": TONES,
    "syntone-file": SYNTONE_FILE,
    "digits": DIGITS,
    "recordings": RECORDINGS,
}
