"""The table of codes: short files share row groups of Parquet, and an interruption leaves no file."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sonarium.commands import codetable
from sonarium.commands.codetable import Part, write

RATE = 50.0
LENGTHS = [int(length) for length in np.random.default_rng(0).integers(1, 40, 60)]
CODES = [np.random.default_rng(number).standard_normal((length, 3)) for number, length in enumerate(LENGTHS)]


def parts(given: Callable[[int], Iterator[np.ndarray]]) -> list[Part]:
    return [Part(f"{n}.wav", length, lambda n=n: given(n)) for n, length in enumerate(LENGTHS)]


@pytest.mark.parametrize("group", [1, 100, 10_000])
def test_files_share_row_groups(group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(codetable, "GROUP", group)
    path = tmp_path / "codes.parquet"
    assert write(path, parts(lambda n: iter(np.array_split(CODES[n], min(2, LENGTHS[n])))), RATE) == 3
    table, told = parquet.read_table(path), parquet.ParquetFile(path).metadata
    sizes = [told.row_group(number).num_rows for number in range(told.num_row_groups)]
    assert sum(sizes) == sum(LENGTHS)
    if group > 1:
        assert all(group <= size < group + max(LENGTHS) for size in sizes[:-1])
        assert len(sizes) <= 1 + sum(LENGTHS) // group
    names = [f"{n}.wav" for n, length in enumerate(LENGTHS) for _ in range(length)]
    assert table["path"].to_pylist() == names
    starts = [row / RATE for length in LENGTHS for row in range(length)]
    np.testing.assert_allclose(table["start"].to_numpy(), starts)
    found = np.stack([table[f"code_{code}"].to_numpy() for code in range(3)], 1)
    np.testing.assert_array_equal(found, np.concatenate(CODES).astype(np.float32))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])
def test_an_interruption_leaves_nothing(suffix: str, tmp_path: Path) -> None:
    def given(number: int) -> Iterator[np.ndarray]:
        if number == 30:
            raise KeyboardInterrupt
        yield CODES[number]

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / f"codes{suffix}", parts(given), RATE)
    assert list(tmp_path.iterdir()) == []
