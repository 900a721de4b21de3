"""Conversion of configurations of earlier versions to the current format."""

from collections.abc import Mapping
from typing import Any

from sonarium.config import clipped, short

LEVEL = {"level": "level_normalisation"}
RENAMED: dict[str, dict[str, str]] = {
    "WaveformConfig": LEVEL,
    "RecordingsConfig": {"each": "clip", "bad_share": "bad_fraction"},
    "SpectrogramConfig": {"lowest_band": "fmin", "highest_band": "fmax"},
    "EncoderConfig": {"bands": "mels"},
    "ContextConfig": {"both_ways": "bidirectional"},
    "PredictorConfig": {"ahead": "steps_ahead", "constant": "predictor_bias"},
    "ContrastConfig": {"but_own": "exclude_own"},
    "AdamConfig": {"second_moment": "beta2"},
    "ScheduleConfig": {"course": "schedule", "warm_up": "warmup_steps", "horizon": "decay_steps"},
}
"""By class name of a configuration: names of fields in version 0.1, and their current names."""
CLIPPED = {"clip": "gradient_clip"}
RENAMED_2: dict[str, dict[str, str]] = {
    "ObjectiveConfig": {"discount": "direct_discount"},
    "TokensConfig": {"lowest": "fmin", "highest": "fmax"},
    "DreamingConfig": CLIPPED,
    "AutoregressiveConfig": CLIPPED,
    "GRUConfig": CLIPPED,
    "DescentConfig": CLIPPED,
    "WaveformConfig": LEVEL,
}
"""The same for format 2."""
ADDED: dict[str, dict[str, Any]] = {
    "TonesConfig": {"frequency_spacing": "linear"},
    "HeadsConfig": {"joint_prior": False},
    "Upstream": {"best": False},
}
"""By class name of a configuration: fields that were added later, and their values in older configurations."""

KEYS_1 = {"model", "preset", "world", "model_config", "world_config", "fit"}
LOOP = ("seed", "precision", "log_every", "save_every")
SPLIT = ("validation", "test", "test_groups", "validation_groups")
CLIPS = {"batch": "batch_size", "hear": "train_on", "cache_megabytes": "cache_megabytes"}


def from_format_1(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The sections of format 2 from the six keys of version 0.1; names in them are upgraded when read."""
    if config.keys() != KEYS_1:
        raise ValueError(f"{where} has the keys {short(sorted(config))}, expected {sorted(KEYS_1)}: restore it")
    for name in ("world_config", "model_config", "fit"):
        if not isinstance(config[name], dict):
            raise ValueError(f"{where}: {name} is {short(config[name])}, expected an object: restore it")
    fit = config["fit"]
    if unknown := sorted(set(fit) - {*LOOP, *SPLIT, *CLIPS}):
        raise ValueError(f"{where}: fit has unknown keys {clipped(', '.join(unknown))}: restore it")
    return {
        "model": {"name": config["model"], "preset": config["preset"], "config": config["model_config"]},
        "source": {
            "world": config["world"],
            "config": config["world_config"],
            "clips": {new: fit[old] for old, new in CLIPS.items() if old in fit},
            "split": {name: fit[name] for name in SPLIT if name in fit},
        },
        "loop": {name: fit[name] for name in LOOP if name in fit},
        "upstream": None,
    }
