"""The worlds that contracts are tested on, each made once."""

from functools import cache

import pytest
from contracts.small import data_for, world_of


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where worlds that are read from files have them."""
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture(scope="session")
def made(folder):
    """A world by its name."""
    return cache(lambda name: world_of(name, folder))


@pytest.fixture(scope="session")
def data(folder):
    """A world of this form of signal."""
    return cache(lambda kind: data_for(kind, folder))
