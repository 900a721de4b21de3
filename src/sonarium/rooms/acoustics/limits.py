"""Limits checked before work that would fill the memory or take minutes; arguments lift all but `MOST_CORNERS`."""

import torch

MOST_CORNERS = 1000
"""Maximum number of corners of a floor plan: every wall is compared with every other."""
MOST_IMAGES = 1_000_000
"""Maximum number of images of one source."""
LONGEST_RESPONSE = 30.0
"""Maximum duration of an impulse response in seconds, in which sound travels ten kilometres."""


def check_images(count: int, order: int, most: int) -> None:
    if count > most:
        raise ValueError(
            f"at order {order} a source has more than {most:,} images: give a lower order, or a larger most_images"
        )


def check_length(samples: int, rate: float, longest: float) -> None:
    if samples > longest * rate:
        raise ValueError(
            f"the response lasts {samples / rate:.4g} s ({samples:,} samples), more than {longest:g} s: give a "
            "smaller room, a lower order, or a larger longest_response"
        )


def checked_device(name: str) -> torch.device:
    """The torch device of this name; raises ValueError if it is not available."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device '{name}': give cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device '{name}': give cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device '{name}': this torch sees {torch.cuda.device_count()} CUDA device(s); give cpu")
    return device
