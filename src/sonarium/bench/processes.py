"""Two processes of one thread each, compared with one process of two threads, at the same global batch size.

Both sides are waiting worker processes, with the libraries imported and the features computed, which train in turn
for some steps while the other side sleeps. Steps are those of `fit`: minibatches of clips, gradients averaged over
processes, metrics.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch

from sonarium.bench.timing import case, interleaved
from sonarium.catalogue import MODELS
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import Meter
from sonarium.training.launch import free_port
from sonarium.worlds.contract import Batch, Signal, World
from sonarium.worlds.tones.world import Tones, TonesConfig

BATCH, STEPS, CLIPS = 64, 5, 256
RATE, SAMPLES = 16000, 20480


class Noises(World):
    """Recordings of noise in memory, so that reading is not measured."""

    name = "noises"
    signal = Signal("wave", (SAMPLES,), RATE)

    def __init__(self) -> None:
        self.waves = torch.rand(CLIPS, SAMPLES, generator=torch.Generator().manual_seed(0)) - 0.5

    def __len__(self) -> int:
        return CLIPS

    def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
        return Batch(index, self.waves[index].to(device), torch.empty(len(index), 0))


def tones() -> World:
    return Tones(TonesConfig(frequencies=8, amplitudes=8), 0)


WORK: dict[str, tuple[str, Callable[[], World], str]] = {
    "beta-vae default on tones": ("beta-vae", tones, "of 1 s at 16000 Hz, features kept"),
    "cpc default on recordings": ("cpc", Noises, f"of {SAMPLES} samples at {RATE} Hz"),
}


def steps_of(name: str) -> Callable[[], object]:
    """Function that takes `STEPS` training steps of a learner, and can be called repeatedly."""
    model, make, _ = WORK[name]
    world, engine = make(), FabricEngine("cpu", "32", 0)
    torch.manual_seed(0)
    learner = MODELS[model].build(MODELS[model].presets["default"](world.signal.kind), world.signal)
    clips, meter = Clips(world, torch.arange(min(CLIPS, len(world))), ClipsConfig(BATCH), 0), Meter(engine)
    engine.dataset_size = len(clips.index)
    clips.attach(learner, engine)
    learner.prepare(clips, engine)
    learner.train()

    def steps() -> None:
        for _ in range(STEPS):
            meter.add(learner.update(next(clips), engine))
        meter.take(STEPS)

    return steps


def serve(connection: Connection, name: str, rank: int, ranks: int, threads: int, port: int) -> None:
    """Worker loop of one of several processes: train whenever asked to."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in place.items()})
    torch.set_num_threads(threads)
    steps = steps_of(name)
    connection.send("ready")
    while connection.recv():
        steps()
        connection.send("done")


@contextmanager
def workers(name: str, ranks: int, threads: int) -> Iterator[Callable[[], object]]:
    """Function that lets all processes of one side train at once, and waits for them."""
    context, port = multiprocessing.get_context("spawn"), free_port()
    pipes = [context.Pipe() for _ in range(ranks)]
    processes = [
        context.Process(target=serve, args=(there, name, rank, ranks, threads, port), daemon=True)
        for rank, (_, there) in enumerate(pipes)
    ]
    for process, (_, there) in zip(processes, pipes, strict=True):
        process.start()
        # With this copy closed, the pipe of a dead process raises EOFError instead of blocking.
        there.close()

    def train() -> None:
        for here, _ in pipes:
            here.send(True)
        for here, _ in pipes:
            here.recv()

    try:
        for here, _ in pipes:
            here.recv()
        yield train
    finally:
        for process in processes:
            process.kill()
            process.join()


def cases(repeats: int = 5) -> list[dict]:
    found = []
    for name, (_, _, what) in WORK.items():
        with workers(name, 2, 1) as two, workers(name, 1, 2) as one:
            ours_s, peer_s = interleaved(two, one, repeats)
        work = f"{STEPS} steps of {BATCH} clips {what}: 2 processes of 1 thread"
        found.append(case(name, work, "1 process of 2 threads", ours_s, peer_s))
    return found
