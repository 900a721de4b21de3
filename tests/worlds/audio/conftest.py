import pytest
import soundfile
from worlds.audio.recorded import FORMS, put


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of one file in each format, and its samples as libsndfile decodes them."""
    folder = tmp_path_factory.mktemp("whole")
    paths = {name: put(folder, name) for name in FORMS}
    return {name: (path.read_bytes(), soundfile.read(path, dtype="float32")[0]) for name, path in paths.items()}
