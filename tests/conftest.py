"""What all tests share: one thread a process, and the optional folder of recordings and references."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def shared_data() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the optional folder of recordings and reference outputs (../shared/data)")
    return folder
