"""Setup of all tests: checks of shapes, one thread per process, the installed extension, and the optional
folder of reference data."""

import functools
import inspect
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

# Check types and shapes of all annotated signatures that tests call, except in long loops.
install_import_hook(["sonarium", "sonarium_extension"], "typechecking.check")
# Tests see a catalogue with the entries of an extension, as it is for users who have installed one.
install_extension()

torch.set_num_threads(1)
# Every command line reads the sources of its settings anew for their help; these stay the same here.
inspect.findsource = functools.cache(inspect.findsource)
# Ctrl-C interrupts the tests and the commands that they run, even if the shell that started them ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
# No deadline: the first example of a compiled function waits for the compiler, and machines are shared.
# Derandomised: examples are the same in every run, so that no test fails by chance.
settings.register_profile("patient", deadline=None, derandomize=True)
settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Make the random weights of a test, and the calls that are checked, independent of the tests before it."""
    torch.manual_seed(0)
    begin()


COMPILING = (
    "rooms/", "agents/", "play/", "bench/test_rooms", "bench/test_rollout", "bench/test_ppo",
    "contracts/test_rooms", "commands/test_play",
)  # fmt: skip
"""Tests that compile the kernels of room acoustics, which takes half a minute in a fresh clone."""


class ByFile(LoadScopeScheduling):
    """Runs all tests of a file in one process, and all tests that compile the same kernels in one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0].removeprefix("tests/")
        return "rooms" if file.startswith(COMPILING) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(autouse=True)
def no_progress_lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable progress lines, which depend on the speed of the machine; they are tested separately."""
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
    """Processes for distributed training."""
    from ranks import Ranks

    workers = Ranks()
    yield workers
    workers.end()
