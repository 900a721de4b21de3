"""Contract of every front end: the shape it announces, finite features, a scale that is saved, and frames that
depend only on their clip."""

import pytest
import torch

from sonarium.catalogue import FRONT_ENDS
from sonarium.features.contract import FrontEnd, PictureFrontEnd
from sonarium.worlds.contract import Batch, World

CASES = [(name, kind) for name, entry in FRONT_ENDS.loadable().items() for kind in entry.kinds]
pytestmark = pytest.mark.parametrize(("name", "kind"), CASES)


def fitted(name: str, world: World) -> tuple[FrontEnd, Batch]:
    """A front end with fitted scale, and pieces that their clips fill without padding."""
    front = FRONT_ENDS[name].Config().build(world.signal)
    index = torch.arange(12)
    front.fit_batches(iter([world.excerpt(index)]))
    return front.eval(), world.excerpt(index[world.lengths(index) >= world.signal.shape[0]])


def shortest(front: FrontEnd) -> int:
    return front.window_length if isinstance(front, PictureFrontEnd) else 1


def test_features_have_the_shape_that_is_promised(name, kind, data):
    front, batch = fitted(name, data(kind))
    features = front(batch.signal)
    assert features.shape == (len(batch.index), *front.shape(batch.signal.shape[1]))
    assert features.isfinite().all() and features.dtype == batch.signal.dtype
    if batch.signal.ndim == 2:
        for samples in (shortest(front), batch.signal.shape[1] - 1):
            assert front(batch.signal[:, :samples]).shape[1:] == front.shape(samples)
    assert torch.equal(front(batch.signal.flip(0)).flip(0), features)


def test_a_clip_has_the_frames_that_it_would_have_alone(name, kind, data):
    front, batch = fitted(name, data(kind))
    size = batch.signal.shape[1]
    lengths = torch.linspace(shortest(front), size, 9).long()
    frames = front.frames(lengths)
    if frames is None:
        pytest.skip(f"features of {name} have no time axis")
    for length, count in zip(lengths.tolist(), frames.tolist(), strict=True):
        assert count == front.shape(length)[-1]
    assert (front.frames(lengths.flip(0)) == frames.flip(0)).all() and (frames.diff() >= 0).all()


def test_its_scale_is_saved_with_the_learner(name, kind, data):
    world = data(kind)
    front, batch = fitted(name, world)
    other = FRONT_ENDS[name].Config().build(world.signal)
    other.load_state_dict(front.state_dict())
    assert torch.equal(other(batch.signal), front(batch.signal))


def test_padding_has_no_part_in_the_scale(name, kind, data):
    """If padding counted, its silence would lower the mean."""
    world = data(kind)
    front, batch = fitted(name, world)
    if front.frames(torch.tensor([batch.signal.shape[1]])) is None:
        pytest.skip(f"clips of {kind} have no padding")
    other = FRONT_ENDS[name].Config().build(world.signal)
    size = batch.signal.shape[1]
    lengths = torch.full((len(batch.index),), size)
    other.fit([torch.cat([batch.signal, torch.zeros(len(batch.index), 3 * size)], 1)], [lengths])
    front.fit([batch.signal])
    torch.testing.assert_close(other(batch.signal), front(batch.signal), rtol=0.2, atol=0.2)


def test_what_is_too_short_or_of_another_kind_is_refused(name, kind, data):
    front, _ = fitted(name, data(kind))
    if isinstance(front, PictureFrontEnd) and front.window_length > 1:
        with pytest.raises(ValueError, match="shorter than"):
            front.shape(front.window_length - 1)
    for other in {"wave", "picture", "codes"} - set(FRONT_ENDS[name].kinds):
        with pytest.raises(ValueError, match=r"choose|give"):
            FRONT_ENDS[name].Config().build(data(other).signal)


def test_a_picture_of_features_can_be_drawn_and_inverted_where_it_says_so(name, kind, data):
    front, batch = fitted(name, data(kind))
    if not isinstance(front, PictureFrontEnd):
        pytest.skip(f"{name} is not drawn")
    features, axes = front(batch.signal), front.axes
    drawn = front.drawn(features)
    assert drawn.shape[0] == len(features) and drawn.ndim == 3 and axes.low < axes.high
    assert drawn.shape[1] == features.shape[2] - front.level_rows
    if axes.hertz is not None:
        assert len(axes.hertz) == drawn.shape[1] and (axes.hertz[1:] > axes.hertz[:-1]).all()
    length = batch.signal.shape[1]
    if not front.invertible:
        with pytest.raises(ValueError, match="cannot be inverted"):
            front.invert(features, length)
        return
    waves = front.invert(features, length, 8, torch.Generator().manual_seed(0))
    assert waves.shape == (len(features), length) and waves.isfinite().all()
    # Features of the inverted sound correlate with those that it was inverted from.
    found = torch.corrcoef(torch.stack([front(waves).flatten(), features.flatten()]))[0, 1]
    assert found > 0.8
