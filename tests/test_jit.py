"""Compiled loops, also where nothing that was compiled can be kept."""

import pytest
from numba.core.caching import CacheImpl

from sonarium.jit import compiled


def ratio(x, y):
    return x / y


def as_numpy(x, y):
    return x / y


def test_loops_are_compiled_where_no_folder_can_be_written(monkeypatch):
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    assert compiled()(ratio)(1.0, 4.0) == 0.25


def test_division_by_zero_is_as_in_python_or_as_in_numpy():
    with pytest.raises(ZeroDivisionError):
        compiled()(ratio)(1.0, 0.0)
    assert compiled("numpy")(as_numpy)(1.0, 0.0) == float("inf")
