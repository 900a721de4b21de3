"""Videos and sound files of episodes, decoded by independent libraries."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typechecking import unchecked

from sonarium.rooms.acoustics.geometry import shoebox
from sonarium.rooms.draw import canvas
from sonarium.rooms.draw.film import (
    PEAK,
    TRACKS,
    Differences,
    Loudness,
    Recorded,
    between,
    film,
    frames,
    frames_a_window,
    still,
    wav,
)
from sonarium.rooms.draw.overlay import sound_field
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek

STEPS = 11


def record(source: tuple[float, float] = (4.0, 5.0), rate: int = 8000) -> Recorded:
    """Record a walk along x past a source on the left, and then a turn."""
    config = SeekConfig(sources=1, rate=rate, sounds=("siren",), absorption=1.0, order=0, threads=1)
    room = Seek(config)
    options = {"room": shoebox((8, 8)), "places": [source], "pose": [1.0, 4.0, 0.0]}
    heard, _ = room.reset(seed=0, options=options)
    scenes, windows, fields = [room.scene()], [heard], [sound_field(room.scene(), 12)]
    for step in range(STEPS):
        heard, *_ = room.step(0 if step < STEPS - 3 else 2)
        scenes.append(room.scene())
        windows.append(heard)
        fields.append(fields[0])
    return Recorded(scenes, np.stack(windows), rate, fields)


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return record()


@pytest.fixture(scope="module")
def file(recorded, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("film") / "folder" / "film.mp4"
    film(recorded, path, size=161)
    return path


def decoded(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """All frames and all samples of a video file."""
    with av.open(str(path)) as read:
        pictures = [frame.to_ndarray(format="rgb24") for frame in read.decode(video=0)]
    with av.open(str(path)) as read:
        samples = np.concatenate([frame.to_ndarray() for frame in read.decode(audio=0)], axis=1)
    return pictures, samples


def test_both_streams_are_as_long_as_the_episode(recorded, file):
    with av.open(str(file)) as read:
        video, audio = read.streams.video[0], read.streams.audio[0]
        assert video.codec_context.name == "h264" and video.codec_context.pix_fmt == "yuv420p"
        assert audio.codec_context.name == "aac" and audio.codec_context.layout.name == "stereo"
        assert video.average_rate is not None and video.average_rate >= 12
        frame = 1 / float(video.average_rate)
        for stream in (video, audio):
            assert stream.duration is not None and stream.time_base is not None
            assert abs(float(stream.duration * stream.time_base) - recorded.seconds) <= frame
        assert video.width % 2 == 0 and video.height % 2 == 0
    pictures, samples = decoded(file)
    assert len(pictures) == len(recorded.scenes) * frames_a_window(recorded) == 36
    assert abs(samples.shape[1] / 8000 - recorded.seconds) <= frame


def test_the_sound_of_the_film_is_what_was_heard_with_its_sides(recorded, file):
    wave = recorded.wave()
    _, samples = decoded(file)
    shared = min(samples.shape[1], wave.shape[1])
    # The source passes on the left, then lies ahead, so that the channels differ enough to be told apart.
    alike = np.corrcoef(np.concatenate([samples[:, :shared], wave[:, :shared]]))
    assert min(alike[0, 2], alike[1, 3]) > 0.97 > max(alike[0, 3], alike[1, 2])


def test_what_was_imagined_is_a_second_audio_track(recorded, tmp_path):
    swapped = replace(recorded, imagined=recorded.windows[:, ::-1])
    film(swapped, tmp_path / "film.mp4", size=64)
    wave = recorded.wave()
    for track, sides in enumerate((wave, wave[::-1])):
        with av.open(str(tmp_path / "film.mp4")) as read:
            assert len(read.streams.audio) == 2
            assert read.streams.audio[track].metadata["handler_name"] == TRACKS[track]
            samples = np.concatenate([frame.to_ndarray() for frame in read.decode(audio=track)], axis=1)
        shared = min(samples.shape[1], wave.shape[1])
        alike = np.corrcoef(np.concatenate([samples[:, :shared], sides[:, :shared]]))
        assert min(alike[0, 2], alike[1, 3]) > 0.97


def test_the_left_channel_is_louder_where_the_source_is_on_the_left(recorded):
    beside = slice(5 * 2000, 8 * 2000)
    wave = recorded.wave()[:, beside]
    assert np.square(wave[0]).sum() > 1.1 * np.square(wave[1]).sum()


def test_the_pictures_are_those_drawn(recorded, file):
    pictures, _ = decoded(file)
    for seen, drawn in zip(pictures, frames(recorded, size=161), strict=True):
        assert seen.shape == drawn.shape
        assert np.abs(seen.astype(int) - drawn).mean() < 6


def test_the_beginning_of_the_file_tells_where_all_is(file):
    """A browser can then play the file before it is complete."""
    content = file.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_a_rate_that_players_do_not_know_is_changed(tmp_path):
    one = record(rate=10_000)
    film(one, tmp_path / "film.mp4", size=120, strip=False)
    _, samples = decoded(tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as read:
        assert read.streams.audio[0].rate == 48_000
    assert abs(samples.shape[1] / 48_000 - one.seconds) < 0.08


def test_a_wav_file_holds_the_windows_end_to_end(recorded, tmp_path):
    (tmp_path / "sound.wav").write_bytes(wav(recorded))
    samples, rate = soundfile.read(tmp_path / "sound.wav")
    joined = np.concatenate(list(recorded.windows), axis=1)
    gain = PEAK / np.abs(joined).max()
    assert rate == 8000
    np.testing.assert_allclose(samples.T, gain * joined, atol=1 / 32768)


def test_silence_stays_silent(recorded):
    silent = replace(recorded, windows=np.zeros_like(recorded.windows))
    assert (silent.wave() == 0).all()
    for strip in (Differences, Loudness):
        strip(silent.wave(), 8000, 200).at(1.0)


def test_an_interrupted_film_leaves_nothing(recorded, tmp_path, monkeypatch):
    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sonarium.rooms.draw.film.picture", broken)
    with pytest.raises(KeyboardInterrupt):
        film(recorded, tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_error(recorded, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        film(recorded, tmp_path / "file" / "film.mp4", size=100)


@settings(max_examples=30)
@example(first=3.0, turn=1.0, share=0.35)
@given(first=st.floats(-np.pi, np.pi), turn=st.floats(-3, 3), share=st.floats(0, 1))
def test_the_head_turns_the_short_way(recorded, first, turn, share):
    second = np.angle(np.exp(1j * (first + turn)))
    before = replace(recorded.scenes[0], pose=np.array([1.0, 2.0, first]))
    after = replace(recorded.scenes[1], pose=np.array([2.0, 2.0, second]))
    eased = between(before, after, share)
    assert 1 <= eased.pose[0] <= 2 and eased.pose[1] == 2
    turned = np.angle(np.exp(1j * (eased.pose[2] - first)))
    assert min(0, turn) - 1e-9 <= turned <= max(0, turn) + 1e-9
    assert len(eased.trajectory) == len(after.trajectory)
    np.testing.assert_array_equal(between(before, after, 1.0).pose, after.pose)
    np.testing.assert_allclose(between(before, after, 0.0).pose, before.pose)


@pytest.mark.parametrize("lead", [-2, 2])
def test_the_strip_has_the_colour_of_the_ear_that_is_first(lead):
    noise = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    # Low frequencies only, at which so short a delay does not wrap the phase.
    low = np.convolve(noise, np.hanning(25) / 12, mode="same").astype(np.float32)
    wave = np.stack([low, np.roll(low, lead)])
    phase = Differences(wave, 8000, 400).fields["phase"].astype(int)
    # The lowest bands are the last rows; in the lowest three, two samples are hardly a phase difference.
    bluer = phase[-8:-3, :, 2] - phase[-8:-3, :, 0]
    assert np.mean(bluer * lead > 0) > 0.9


def test_the_strip_shows_the_past_only():
    wave = np.zeros((2, 32_000), np.float32)
    wave[0, 16_000:] = np.random.default_rng(1).normal(size=16_000)
    strip = Differences(wave, 8000, 400)
    empty, full = (np.asarray(strip.at(seconds)).astype(int) for seconds in (1.9, 4.0))
    blue = canvas.mixed(canvas.LEFT, canvas.PAPER, 1.0)
    near = [(np.abs(seen - blue).max(axis=2) < 40).mean() for seen in (empty, full)]
    assert near[0] == 0 and near[1] > 0.1


def test_by_ear_there_is_no_room(recorded):
    """Frames do not depend on the scenes; they are as wide as with a floor plan, but not as high."""
    one = list(frames(recorded, 160, view="ears"))
    moved = [replace(scene, pose=scene.pose + 1, sources=scene.sources - 1) for scene in recorded.scenes]
    for seen, other in zip(one, frames(replace(recorded, scenes=moved), 160, view="ears"), strict=True):
        np.testing.assert_array_equal(seen, other)
    above = next(iter(frames(recorded, 160)))
    assert len(one) == len(recorded.scenes) * frames_a_window(recorded) and one[0].shape[0] % 2 == 0
    assert one[0].shape[1] == above.shape[1] and one[0].shape[0] < above.shape[0]


@pytest.mark.parametrize(("louder", "softer"), [("left", "right"), ("right", "left")])
def test_the_loudness_is_that_of_each_ear(louder, softer):
    wave = 0.1 * np.random.default_rng(0).normal(size=(2, 16_000)).astype(np.float32)
    wave[0 if louder == "right" else 1] *= 0.01
    fields = Loudness(wave, 8000, 400).fields
    # 40 dB lower on a scale of 50 dB: a fifth of the colour.
    dark = {name: 255 - field.astype(int).min(2).mean() for name, field in fields.items()}
    assert dark[louder] > 2.5 * dark[softer] > 0


def test_a_still_is_the_picture():
    import io

    from PIL import Image

    seen = np.zeros((20, 30, 3), np.uint8)
    seen[:, 10:] = (0, 114, 178)
    with Image.open(io.BytesIO(still(seen))) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), seen)


def test_scenes_and_windows_go_together(recorded):
    with unchecked(), pytest.raises(ValueError, match="one scene for each window"):
        Recorded(recorded.scenes[1:], recorded.windows, 8000)
    with unchecked(), pytest.raises(ValueError, match="one scene for each window"):
        Recorded([], np.zeros((0, 2, 10), np.float32), 8000)
    with unchecked(), pytest.raises(ValueError, match="one each, or none"):
        Recorded(recorded.scenes, recorded.windows, 8000, recorded.fields[1:])
