"""What all tests share: shapes checked, one thread a process, the installed extension, and the
optional folder of references."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from installed import install_extension
from jaxtyping import install_import_hook
from typechecking import begin
from xdist.scheduler import LoadScopeScheduling

# Every shape that a signature promises is checked wherever a test goes through it, but for long loops.
install_import_hook(["sonarium", "sonarium_extension"], "typechecking.check")
# The catalogue that tests see has entries of another package in it, as it has where somebody has installed one.
install_extension()

torch.set_num_threads(1)
# Also where the shell that started them ignores it, Ctrl-C interrupts the tests and the commands that they run.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The first example of a compiled function waits for the compiler, and machines are shared. No test fails by luck:
# its examples are the same in every run.
settings.register_profile("patient", deadline=None, derandomize=True)
settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Weights that a test draws do not follow from the tests before it, nor does what is checked."""
    torch.manual_seed(0)
    begin()


COMPILING = (
    "rooms/", "agents/", "play/", "bench/test_rooms", "bench/test_rollout", "contracts/test_rooms",
    "commands/test_play",
)  # fmt: skip
"""Tests that compile the kernels of room acoustics, for half a minute in a fresh clone."""


class ByFile(LoadScopeScheduling):
    """Tests of one file run in one process, and those that compile the same kernels, too."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0].removeprefix("tests/")
        return "rooms" if file.startswith(COMPILING) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(autouse=True)
def no_progress_lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command says does not depend on how fast the machine is; the lines have tests of their own."""
    if request.path.name != "test_progress.py":
        for name in ("LATEST", "SOONEST"):
            monkeypatch.setattr(f"sonarium.commands.progress.{name}", float("inf"))


@pytest.fixture
def shared_data() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the optional folder of recordings and reference outputs (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def ranks() -> Iterator[Any]:
    """Processes that train together."""
    from ranks import Ranks

    workers = Ranks()
    yield workers
    workers.end()
