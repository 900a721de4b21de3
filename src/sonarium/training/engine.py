"""Devices and precision. The only file that knows Lightning Fabric."""

import sys
from contextlib import AbstractContextManager
from typing import Literal

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor

Precision = Literal["32", "bf16"]
FABRIC_PRECISION = {"32": "32-true", "bf16": "bf16-mixed"}


class FabricEngine:
    """Runs updates on one device, and keeps the random numbers of the run."""

    def __init__(self, device: str, precision: Precision, seed: int):
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device not in ("cpu", "cuda", "mps"):
            raise ValueError(f"device '{device}': use cpu, cuda, mps or auto")
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device 'cuda': this torch sees no CUDA device; use --device cpu")
        self.fabric = Fabric(accelerator=device, devices=1, precision=FABRIC_PRECISION[precision])
        self.device = self.fabric.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.clips = 0

    def autocast(self) -> AbstractContextManager:
        return self.fabric.autocast()

    def descend(self, loss: Float[Tensor, ""], optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


def environment(engine: FabricEngine) -> dict[str, str | int]:
    """What a run was made with."""
    import platform

    from sonarium import __version__

    return {
        "sonarium": __version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": str(engine.device) if engine.device.type == "cpu" else torch.cuda.get_device_name(engine.device),
        "threads": torch.get_num_threads(),
    }
