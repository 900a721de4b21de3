"""Devices and precision. The only file that knows Lightning Fabric."""

import logging
import platform
import sys
from contextlib import AbstractContextManager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sonarium import __version__
from sonarium.training.contract import Segments

Precision = Literal["32", "bf16"]
FABRIC_PRECISION: dict[str, Literal["32-true", "bf16-mixed"]] = {"32": "32-true", "bf16": "bf16-mixed"}


def choose_device(name: str) -> str:
    """cpu or cuda, by name or the best there is, refused where it is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device '{name}': use --device cpu, cuda or auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda': this torch sees no CUDA device; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def quickest() -> Precision:
    """bf16 where the hardware multiplies it natively, else 32 bits."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "32"


class FabricEngine:
    """Runs updates on one device, and keeps the random numbers of the run."""

    def __init__(self, device: str, precision: Precision, seed: int):
        if precision not in FABRIC_PRECISION:
            raise ValueError(f"precision '{precision}': use --precision {' or '.join(FABRIC_PRECISION)}")
        accelerator = choose_device(device)
        # Fabric takes a second to read, which a person who asks for help should not wait for.
        from lightning_fabric import Fabric

        # It announces on the error stream what the configuration says already.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        self.fabric = Fabric(accelerator=accelerator, devices=1, precision=FABRIC_PRECISION[precision])
        self.device = self.fabric.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.rank, self.ranks, self.dataset_size = 0, 1, 0

    def autocast(self) -> AbstractContextManager:
        return self.fabric.autocast()

    def descend(
        self, loss: Float[Tensor, ""], optimiser: torch.optim.Optimizer, clip: float | None = None
    ) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], clip)
        optimiser.step()

    def share(self, rows: Tensor) -> Tensor:
        return rows

    def gather(self, rows: Tensor) -> Tensor:
        return rows

    def mean(self, value: Tensor) -> Tensor:
        return value

    def segments(self, name: str) -> Segments:
        raise NotImplementedError(name)

    def progress(self, stage: str, done: int, total: int) -> None:
        pass


def environment(engine: FabricEngine) -> dict[str, str | int]:
    """What a run was made with."""
    return {
        "sonarium": __version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": str(engine.device) if engine.device.type == "cpu" else torch.cuda.get_device_name(engine.device),
        "threads": torch.get_num_threads(),
    }
