"""The worlds that the contracts are tested on, each built once."""

from functools import cache

import pytest
from contracts.small import data_for, world_of


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Folder for the files of worlds that are read from files."""
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture(scope="session")
def made(folder):
    """Function that returns a world by its name."""
    return cache(lambda name: world_of(name, folder))


@pytest.fixture(scope="session")
def data(folder):
    """Function that returns a world by its kind of signal."""
    return cache(lambda kind: data_for(kind, folder))
