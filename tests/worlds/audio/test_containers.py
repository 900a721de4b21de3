"""Data before and after the sound of a file: skipped if harmless, reported if sound would be lost."""

import numpy as np
import pytest
import soundfile
from worlds.audio.recorded import RATE, sound

from sonarium.worlds.audio.decoder import read_mono
from sonarium.worlds.audio.file import BadAudio

TAG = b"ID3\4\0\0\0\0\0\x0a" + b"TIT2\0\0\0\0\0\0"
"""An ID3 tag with an empty title, as MPEG audio programs prepend it to any file."""


@pytest.mark.parametrize("name", ["pcm16.flac", "pcm16.wav", "layer3.mp3"])
@pytest.mark.parametrize("tags", [1, 2])
def test_tags_in_front_are_passed_over(name, tags, whole, tmp_path):
    content, samples = whole[name]
    (tmp_path / name).write_bytes(TAG * tags + content)
    np.testing.assert_allclose(read_mono(tmp_path / name, RATE), samples, atol=1e-6)


@pytest.mark.parametrize("name", ["pcm16.flac", "pcm16.wav"])
def test_damage_behind_tags_is_told(name, whole, tmp_path):
    content = bytearray(TAG + whole[name][0])
    (tmp_path / name).write_bytes(content[:-500])
    with pytest.raises(BadAudio, match=r"cut short|checksum"):
        read_mono(tmp_path / name, RATE)
    if name.endswith("flac"):
        content[len(TAG) + 30] ^= 1  # within the MD5 sum
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadAudio, match="the checksum of its sound is wrong"):
            read_mono(tmp_path / name, RATE)


@pytest.mark.parametrize(("name", "size_at"), [("pcm16.wav", 40), ("pcm16.aiff", None)])
def test_sound_beyond_what_the_header_speaks_of_is_told(name, size_at, whole, tmp_path):
    content, _ = whole[name]
    order = "little" if size_at else "big"
    at = size_at or content.index(b"SSND") + 4
    size = int.from_bytes(content[at : at + 4], order) // 4 & ~1
    (tmp_path / name).write_bytes(content[:at] + size.to_bytes(4, order) + content[at + 4 :])
    with pytest.raises(BadAudio, match="bytes follow the sound that its header speaks of"):
        read_mono(tmp_path / name, RATE)


@pytest.mark.parametrize("behind", [bytes(9000), b"LIST" + (8000).to_bytes(4, "little") + b"\xff" * 8000,
                                    b"TAG" + b"\xfe" * 125])  # fmt: skip
def test_what_programs_leave_behind_the_sound_does_no_harm(behind, whole, tmp_path):
    content, samples = whole["pcm16.wav"]
    (tmp_path / "pcm16.wav").write_bytes(content + behind)
    np.testing.assert_array_equal(read_mono(tmp_path / "pcm16.wav", RATE), samples)


def test_chunks_are_found_behind_sound_and_tags_of_odd_length(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, sound()[:2001], RATE, "PCM_U8")
    content, samples = path.read_bytes(), soundfile.read(path, dtype="float32")[0]
    title = b"ID3\4\0\0\0\0\0\x0b" + b"TIT2\0\0\0\1\0\0\0"
    path.write_bytes(title + content + b"LIST" + (8000).to_bytes(4, "little") + b"\xff" * 8000)
    np.testing.assert_array_equal(read_mono(path, RATE), samples)


@pytest.mark.parametrize(
    ("name", "said"),
    [("vorbis.ogg", "several streams"), ("opus.opus", "several streams"), ("layer3.mp3", "its header counts")],
)
def test_two_files_that_were_joined_are_told(name, said, whole, tmp_path):
    (tmp_path / name).write_bytes(2 * whole[name][0])
    with pytest.raises(BadAudio, match=said):
        read_mono(tmp_path / name, RATE)


@pytest.mark.parametrize("value", [2e10, -3e38])
def test_no_sound_has_samples_so_large(value, tmp_path):
    samples = sound()
    samples[100] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, "FLOAT")
    with pytest.raises(BadAudio, match=r"holds a sample of \de\+\d+, which no sound has"):
        read_mono(tmp_path / "a.wav", RATE)
    samples[100] = 2**31
    soundfile.write(tmp_path / "a.wav", samples, RATE, "FLOAT")
    assert read_mono(tmp_path / "a.wav", RATE).max() == 2**31
