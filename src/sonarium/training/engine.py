"""Devices, precision and processes. The only module that uses Lightning Fabric and torch.distributed."""

import logging
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sonarium import __version__
from sonarium.training.contract import Segments
from sonarium.training.launch import Started, started

Precision = Literal["32", "bf16"]
FABRIC_PRECISION: dict[str, Literal["32-true", "bf16-mixed"]] = {"32": "32-true", "bf16": "bf16-mixed"}

NEVER = timedelta(days=365)
"""Timeout for slower processes, in effect none: that a process has died is noticed at once."""


class ProcessLost(OSError):
    """Another process of this training has ended."""


def choose_device(name: str) -> str:
    """Resolve a device name to cpu or cuda (auto: the best available); raises ValueError if unavailable."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device '{name}': use --device cpu, cuda or auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda': this torch sees no CUDA device; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def native_precisions() -> tuple[Precision, ...]:
    """Precisions that the hardware supports natively."""
    return ("32", "bf16") if fastest_precision() == "bf16" else ("32",)


def fastest_precision() -> Precision:
    """bf16 where the hardware multiplies it natively, else 32 bits."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "32"


class FabricEngine:
    """Engine on one device, in a single process or one of several; it owns the random generator of the run."""

    def __init__(self, device: str, precision: Precision, seed: int, nodes: int | None = None):
        if precision not in FABRIC_PRECISION:
            raise ValueError(f"precision '{precision}': use --precision {' or '.join(FABRIC_PRECISION)}")
        accelerator, place = choose_device(device), started()
        check_place(place, accelerator, nodes)
        # Deferred import: Fabric takes a second, and `--help` should not wait for it.
        from lightning_fabric import Fabric

        # It repeats the configuration on stderr.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        self.fabric = Fabric(
            accelerator=accelerator,
            devices=place.here,
            num_nodes=place.nodes,
            precision=FABRIC_PRECISION[precision],
            **connection(place),
        )
        self.fabric.launch()
        self.device = self.fabric.device
        self.rank, self.ranks = self.fabric.global_rank, self.fabric.world_size
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.dataset_size = 0
        self.storage: Callable[[str], Segments] | None = None
        """Segment storage of the run, by name; set when the run is opened."""
        self.report: Callable[[str, int, int], None] = lambda *_: None
        # Flags are reduced on the CPU, so that no GPU waits for them.
        apart = self.ranks > 1 and self.device.type != "cpu"
        self.flags = torch.distributed.new_group(backend="gloo") if apart else None

    def autocast(self) -> AbstractContextManager:
        return self.fabric.autocast()

    def descend(
        self, loss: Float[Tensor, ""], optimiser: torch.optim.Optimizer, clip: float | None = None
    ) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.step(optimiser, clip)

    def step(self, optimiser: torch.optim.Optimizer, clip: float | None = None) -> None:
        if self.ranks > 1 or clip is not None:
            weights = [weight for group in optimiser.param_groups for weight in group["params"]]
            if self.ranks > 1:
                average([weight.grad for weight in weights if weight.grad is not None])
            if clip is not None:
                clip_norm([weight.grad for weight in weights if weight.grad is not None], clip)
        # Adam's moments become denormal where a unit is inactive for long, and CPUs are slow with denormals.
        torch.set_flush_denormal(True)
        try:
            optimiser.step()
        finally:
            torch.set_flush_denormal(False)

    def share(self, rows: Shaped[Tensor, "all *rest"]) -> Shaped[Tensor, "own *rest"]:
        if self.ranks == 1:
            return rows
        assert len(rows) % self.ranks == 0, (len(rows), self.ranks)
        own = len(rows) // self.ranks
        return rows[self.rank * own : (self.rank + 1) * own]

    def gather(self, rows: Shaped[Tensor, "own *rest"]) -> Shaped[Tensor, "all *rest"]:
        return rows if self.ranks == 1 else Gather.apply(rows)

    def mean(self, value: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        return value if self.ranks == 1 else Mean.apply(value)

    def any(self, here: bool) -> bool:
        """Whether the flag is true on any rank."""
        if self.ranks == 1:
            return here
        flag = torch.tensor([float(here)])
        torch.distributed.all_reduce(flag, group=self.flags)
        return bool(flag.item())

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.ranks > 1:
            torch.distributed.barrier()

    def segments(self, name: str) -> Segments:
        assert self.storage is not None, "segments belong to a run that is open"
        return self.storage(name)

    def progress(self, stage: str, done: int, total: int) -> None:
        self.report(stage, done, total)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])


@torch.no_grad()
def clip_norm(gradients: list[Tensor], largest: float) -> None:
    """`torch.nn.utils.clip_grad_norm_` without its bookkeeping, which takes longer than the clipping of a small
    network's gradients."""
    if gradients:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1))


def check_place(place: Started, accelerator: str, nodes: int | None) -> None:
    """Raise ValueError if the processes do not match the flags or the devices of the machine."""
    if nodes is not None and nodes != place.nodes:
        raise ValueError(
            f"--nodes {nodes}, but processes were started on {place.nodes} machine(s): start them with torchrun "
            "or srun on every machine, or leave out --nodes"
        )
    if accelerator == "cuda" and place.here > torch.cuda.device_count():
        raise ValueError(
            f"{place.here} processes on a machine with {torch.cuda.device_count()} CUDA device(s): start as many "
            "processes as there are devices, or use --device cpu"
        )


def connection(place: Started) -> dict[str, Any]:
    """Arguments with which Fabric connects the processes."""
    if place.here * place.nodes == 1:
        return {}
    from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
    from lightning_fabric.strategies import DDPStrategy

    cluster = SLURMEnvironment() if place.by == "srun" else TorchElasticEnvironment()
    return {"strategy": DDPStrategy(timeout=NEVER), "plugins": [cluster]}


@contextmanager
def naming_lost_processes() -> Iterator[None]:
    """Raise ProcessLost for a broken connection, which means that another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error).lower():
            raise
        raise ProcessLost(
            "another process of this training has ended; the same command resumes from the last checkpoint"
        ) from None


def average(gradients: list[Tensor]) -> None:
    """Average gradients over ranks in place, with one all-reduce per dtype."""
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        alike = [gradient for gradient in gradients if gradient.dtype == dtype]
        flat = torch.cat([gradient.flatten() for gradient in alike])
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        for gradient, part in zip(alike, flat.split([gradient.numel() for gradient in alike]), strict=True):
            gradient.copy_(part.view_as(gradient))


class Gather(torch.autograd.Function):
    """All-gather of rows. The loss of each rank depends on all rows, so gradients are summed over ranks."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        # Gloo does not support booleans.
        sent = rows.to(torch.uint8) if rows.dtype == torch.bool else rows
        parts = [torch.empty_like(sent) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, sent.contiguous())
        return torch.cat(parts).to(rows.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        total = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        own = len(total) // torch.distributed.get_world_size()
        first = torch.distributed.get_rank() * own
        return total[first : first + own]


class Mean(torch.autograd.Function):
    """The mean over ranks, which is its own adjoint."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total / torch.distributed.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return Mean.apply(gradients[0])


def environment(engine: FabricEngine, limit: int | None = None) -> dict[str, str | int]:
    """Versions, device, number of processes and of threads of a run; `limit` is that of its learner."""
    threads = torch.get_num_threads()
    return {
        "sonarium": __version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": str(engine.device) if engine.device.type == "cpu" else torch.cuda.get_device_name(engine.device),
        "threads": threads if limit is None else min(threads, limit),
        "processes": engine.ranks,
    }
