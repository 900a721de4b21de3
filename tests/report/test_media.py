"""The media folder: files are readable, correct and reproducible, and listed in the index."""

import json
import wave
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sonarium.features.waveform import sounding
from sonarium.report import figures
from sonarium.report.album import Medium, gif, peak_safe, put, read_index, wav, write_index
from sonarium.report.media import GAP, PIECE, illustrate, in_turn, named_factors, one_after_another
from sonarium.worlds.contract import Batch, Factor, World

EVERY = torch.arange(140)


def test_every_file_opens_and_nothing_else_is_left(shown):
    media, folder = shown
    assert {path.name for path in folder.iterdir()} == {medium.file for medium in media} | {"index.json"}
    assert read_index(folder) == media
    for medium in media:
        if medium.kind == "sound":
            with wave.open(str(folder / medium.file)) as sound:
                assert (sound.getsampwidth(), sound.getframerate(), sound.getnchannels()) == (2, 4000, 1)
                samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16)
            assert np.abs(samples.astype(float)).max() > 50
        else:
            with Image.open(folder / medium.file) as picture:
                assert picture.width > 300
                assert getattr(picture, "n_frames", 1) == (20 if medium.kind == "animation" else 1)


def test_every_kind_of_picture_and_sound_is_there(shown):
    media, folder = shown
    files = {medium.file for medium in media}
    assert {"codes.png", "samples.png", "traversals.png", "traversals.gif", "sample-8.wav"} <= files
    for number in range(1, 5):
        stem = f"reconstruction-{number}"
        assert {f"{stem}.png", f"{stem}-original.wav", f"{stem}-reconstruction.wav"} <= files
    titles = [medium.title for medium in media if medium.file.endswith(("1.png", "2.png", "3.png", "4.png"))]
    assert [title.split(",")[0] for title in titles] == ["Sine", "Triangle", "Sawtooth", "Square"]
    steps = soundfile.info(folder / next(file for file in files if file.startswith("traversal-code")))
    assert steps.duration == pytest.approx(11 * (PIECE + GAP))


def test_an_original_is_heard_as_it_is(shown, tones):
    media, folder = shown
    medium = next(medium for medium in media if medium.file == "reconstruction-1-original.wav")
    heard, _ = soundfile.read(folder / medium.file)
    signals = tones.whole(EVERY).signal.numpy()
    clip = int(np.abs(signals - heard).max(1).argmin())
    words = named_factors(tones.factors, tones.whole(EVERY[clip : clip + 1]).factors[0].tolist())
    assert medium.caption == words
    other = soundfile.read(folder / "reconstruction-1-reconstruction.wav")[0]
    gain = np.abs(heard).max() / np.abs(signals[clip]).max()
    np.testing.assert_allclose(heard, gain * signals[clip], atol=1e-4)
    assert gain == pytest.approx(1, abs=1e-3) or np.abs(other).max() > 0.99


def test_the_same_seed_gives_the_same_files(sound_vae, tones, shown, tmp_path):
    media, folder = shown
    illustrate(sound_vae, tones, EVERY, tmp_path / "again", 0)
    for medium in media:
        assert (folder / medium.file).read_bytes() == (tmp_path / "again" / medium.file).read_bytes()


@pytest.mark.filterwarnings("error")
def test_clips_of_which_nothing_is_known_go_by_their_number(sound_vqvae, tones, tmp_path):
    class Unknown(World):
        name, signal, factors = "unknown", tones.signal, ()

        def __len__(self) -> int:
            return len(tones)

        def whole(self, index, device="cpu") -> Batch:
            return replace(tones.whole(index, device), factors=torch.zeros(len(index), 0))

    media = illustrate(sound_vqvae, Unknown(), EVERY, tmp_path, 0)
    assert {medium.file for medium in media if medium.group == "codes"} == {"codebooks.png"}
    titles = [medium.title for medium in media if medium.file in ("reconstruction-1.png", "reconstruction-4.png")]
    assert len(titles) == 2 and all(title.startswith("Clip ") for title in titles)
    (caption,) = (medium.caption for medium in media if medium.file == "traversals.png")
    assert "from a held-out clip (clip " in caption
    assert {"traversals.gif", "samples.png"} <= {medium.file for medium in media}


def test_of_a_short_clip_only_its_own_sound_is_shown(sound_vae, tones, tmp_path, monkeypatch):
    class Short(World):
        name, signal, factors = "short", tones.signal, tones.factors
        length = 900

        def __len__(self) -> int:
            return len(tones)

        def whole(self, index, device="cpu") -> Batch:
            batch, lengths = tones.whole(index, device), torch.full((len(index),), self.length)
            return replace(batch, signal=batch.signal * sounding(batch.signal.shape[1], lengths), lengths=lengths)

    drawn = []
    for name in ("reconstruction", "traversals"):
        draw = getattr(figures, name)
        monkeypatch.setattr(figures, name, lambda *given, draw=draw: drawn.append(given) or draw(*given))
    illustrate(sound_vae, Short(), EVERY, tmp_path, 0)
    frames = 1 + 900 // 64
    for _, original, made, view, _ in drawn[:4]:
        assert original.bins.shape == made.bins.shape == (20, frames) and view.seconds == 900 / 4000
        assert len(original.wave) == len(made.wave) == 900 and np.abs(original.wave[-60:]).max() > 0.01
    assert {row.bins.shape[1:] for row in drawn[4][0]} == {(20, frames)}
    for kind in ("original", "reconstruction"):
        assert soundfile.info(tmp_path / f"reconstruction-1-{kind}.wav").frames == 900
    moved = next(tmp_path.glob("traversal-code*.wav"))
    assert soundfile.info(moved).duration == pytest.approx(11 * (900 / 4000 + GAP))


def test_pictures_have_no_sound_and_the_learner_stays_as_it_was(picture_vae, digits, tmp_path):
    picture_vae.train()
    state = torch.get_rng_state()
    weights = {name: value.clone() for name, value in picture_vae.state_dict().items()}
    media = illustrate(picture_vae, digits, torch.arange(100), tmp_path, 0)
    assert picture_vae.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, weights[name]) for name, value in picture_vae.state_dict().items())
    assert {medium.file for medium in media} == {
        "codes.png", "reconstructions.png", "traversals.png", "traversals.gif", "samples.png"
    }  # fmt: skip


def test_features_that_cannot_be_heard_are_still_seen(sound_vae, tones, tmp_path):
    sound_vae.front.config = replace(sound_vae.front.config, hop=200)  # more than half the window
    media = illustrate(sound_vae, tones, EVERY[:30], tmp_path, 0)
    sounds = {medium.file for medium in media if medium.kind == "sound"}
    assert sounds == {f"reconstruction-{number}-original.wav" for number in range(1, 5)}


def test_no_held_out_clips(sound_vae, tones, tmp_path):
    with pytest.raises(ValueError, match="no held-out clips of 'tones'"):
        illustrate(sound_vae, tones, EVERY[:0], tmp_path, 0)


@given(st.lists(arrays(float, 20, elements=st.floats(-4, 4)), min_size=1, max_size=4))
def test_sounds_keep_their_relative_loudness(waves):
    safe = peak_safe(waves)
    loudest = max(np.abs(wave).max() for wave in waves)
    for before, after in zip(waves, safe, strict=True):
        assert np.abs(after).max() <= 1
        np.testing.assert_allclose(after * max(1.0, loudest), before, atol=1e-12)


def test_wav_holds_sixteen_bits_of_the_samples(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 500)
    (tmp_path / "x.wav").write_bytes(wav(samples, 4000))
    heard, _ = soundfile.read(tmp_path / "x.wav")
    np.testing.assert_allclose(heard, samples, atol=1 / 32767)


def test_steps_come_one_after_another_and_do_not_click():
    steps = np.stack([np.full(800, level) for level in (0.2, -0.5)])
    sound = one_after_another(steps, 4000)
    assert len(sound) == 2 * (800 + 160)
    np.testing.assert_array_equal(sound[100:700], 0.2)
    np.testing.assert_array_equal(sound[1060:1660], -0.5)
    np.testing.assert_array_equal(sound[800:960], 0)
    assert np.abs(np.diff(sound)).max() < 0.03


def test_an_animation_keeps_its_white_paper(tmp_path):
    frames = [np.full((20, 30, 3), 255, np.uint8) for _ in range(3)]
    for number, frame in enumerate(frames):
        frame[5:15, 5 * number : 5 * number + 10] = np.linspace(0, 200, 10).astype(np.uint8)[:, None]
    (tmp_path / "x.gif").write_bytes(gif(frames))
    with Image.open(tmp_path / "x.gif") as picture:
        for number, frame in enumerate(frames):
            picture.seek(number)
            shown = np.asarray(picture.convert("RGB")).astype(int)
            assert np.abs(shown - frame).max() <= 4
            assert (shown[frame == 255] == 255).all()


def test_each_category_has_its_turn():
    factors = (Factor("size", (0.0, 1.0)), Factor("shape", ("a", "b", "c")))
    values = np.array([[0.1, 2], [0.2, 2], [0.3, 0], [0.4, 1], [0.5, 0]])
    assert in_turn(values, factors, 4) == [2, 3, 0, 4]
    assert named_factors(factors, [0.12345, 2]) == "size 0.123, c"
    assert named_factors((Factor("class", ("0", "1")), Factor("pitch", (1.0,), "Hz")), [1, 1234.5]) == (
        "class 1, pitch 1,234 Hz"
    )


MEDIUM = Medium("picture", "a.png", "A <title>", "§ caption", "codes")


def test_names_that_are_no_text_are_marked(tmp_path):
    """Such as the name of a file that is not UTF-8."""
    write_index(tmp_path, [Medium("picture", "a.png", "caf\udce9.wav", "caption", "songs")])
    [medium] = read_index(tmp_path)
    assert medium.title == "caf?.wav"


def test_the_index_comes_back_as_it_was_and_old_files_go(tmp_path):
    put(tmp_path / "a.png", b"1")
    put(tmp_path / "b.wav", b"2")
    put(tmp_path / "mine.txt", b"3")
    media = [MEDIUM, Medium("sound", "b.wav", "b", "", "samples/1")]
    write_index(tmp_path, media)
    assert read_index(tmp_path) == media
    write_index(tmp_path, media[:1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "index.json", "mine.txt"]
    assert read_index(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("file", "../secret.png"), ("file", "/etc/passwd"), ("file", ".hidden"), ("kind", "script"), ("more", "x")],
)
def test_an_index_that_was_tampered_with_is_refused(tmp_path, field, value):
    write_index(tmp_path, [MEDIUM])
    listed = json.loads((tmp_path / "index.json").read_text())
    listed["media"][0][field] = value
    (tmp_path / "index.json").write_text(json.dumps(listed))
    with pytest.raises(ValueError, match=r"is not an index of media .* make the pictures anew"):
        read_index(tmp_path)


DAMAGED = ["", "{", "[]", '{"format": 2, "media": []}', '{"media": []}', "[" * 100_000, "\0é"]


@pytest.mark.parametrize("text", DAMAGED, ids=[text[:20] or "empty" for text in DAMAGED])
def test_a_damaged_index_is_refused_by_readers_and_mended_by_writers(tmp_path, text):
    (tmp_path / "index.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="is not an index of media"):
        read_index(tmp_path)
    write_index(tmp_path, [MEDIUM])
    assert read_index(tmp_path) == [MEDIUM]


def test_a_step_of_a_traversal_fills_a_window(sound_vae, tones, tmp_path, monkeypatch):
    monkeypatch.setattr("sonarium.report.media.PIECE", 0.01)
    media = illustrate(sound_vae, tones, EVERY[:30], tmp_path, 0)
    file = next(medium.file for medium in media if medium.file.startswith("traversal-code"))
    assert soundfile.info(tmp_path / file).duration == pytest.approx(11 * (256 / 4000 + GAP))
