"""Audio files are decoded exactly; damage is reported, and never passes for sound."""

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.audio.recorded import FORMS, RATE, put, sound

from sonarium.worlds.audio import file as audiofile
from sonarium.worlds.audio import mpeg
from sonarium.worlds.audio.containers import ogg_checksum
from sonarium.worlds.audio.decoder import read_mono
from sonarium.worlds.audio.file import BadAudio, Limits, Recording, openable

CHECKSUMS = ("pcm16.flac", "pcm24.flac", "vorbis.ogg", "opus.opus")


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", FORMS)
def test_every_format_comes_out_as_it_is(name, channels, tmp_path):
    path = put(tmp_path, name, sound(channels=channels))
    expected, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == RATE
    # The MPEG audio decoder rounds differently after a seek to its current position.
    close = {"rtol": 0, "atol": 1e-6 if name.endswith("mp3") else 0}
    np.testing.assert_allclose(read_mono(path, RATE), expected.mean(axis=1), **close)
    resampled = soxr.resample(expected.mean(axis=1), RATE, 11_025)
    np.testing.assert_allclose(read_mono(path, 11_025), resampled, **close)


def test_reading_in_blocks_changes_nothing(tmp_path, monkeypatch):
    path = put(tmp_path, "pcm24.flac", sound(channels=2))
    at_once = read_mono(path, 22_050)
    monkeypatch.setattr(audiofile, "BLOCK", 777)
    np.testing.assert_array_equal(np.concatenate(list(Recording(path).mono(22_050))), at_once)
    samples = soundfile.read(path, dtype="float32")[0]
    for channel in (0, 1):
        chosen = np.concatenate(list(Recording(path).mono(RATE, channel)))
        np.testing.assert_array_equal(chosen, samples[:, channel])
    with pytest.raises(BadAudio, match=r"no channel 2.*choose another"):
        list(Recording(path).mono(RATE, 2))


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=25)
@given(data=st.data())
def test_a_file_that_is_cut_anywhere_is_refused(name, whole, tmp_path_factory, data):
    content, _ = whole[name]
    path = tmp_path_factory.mktemp("cut") / name
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(BadAudio):
        read_mono(path, RATE)


@pytest.mark.parametrize("name", CHECKSUMS)
@settings(max_examples=40)
@given(data=st.data())
def test_no_altered_byte_alters_the_sound_unnoticed(name, whole, tmp_path_factory, data):
    """In formats with checksums: the file is refused, or the byte is not part of the sound."""
    content, expected = whole[name]
    path = tmp_path_factory.mktemp("flipped") / name
    at, mask = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
    path.write_bytes(content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :])
    try:
        samples = read_mono(path, RATE)
    except BadAudio:
        return
    # Only the rate in the header may differ, which no checksum of FLAC covers.
    if len(samples) == len(expected):
        np.testing.assert_array_equal(samples, expected)
    else:
        assert name.endswith("flac")
        assert 18 <= at < 21


def test_the_sum_of_flac_is_compared(whole, tmp_path):
    content, _ = whole["pcm24.flac"]
    path = tmp_path / "sum.flac"
    path.write_bytes(content[:30] + bytes([content[30] ^ 1]) + content[31:])
    with pytest.raises(BadAudio, match="checksum of its sound is wrong"):
        read_mono(path, RATE)
    path.write_bytes(content[:26] + bytes(16) + content[42:])
    assert len(read_mono(path, RATE)) == len(sound())


def test_the_checksum_of_ogg_is_that_of_its_specification():
    def by_definition(content):
        remainder = 0
        for byte in content:
            remainder ^= byte << 24
            for _ in range(8):
                remainder = (remainder << 1) ^ (0x104C11DB7 if remainder >> 31 else 0)
        return remainder

    for length in (0, 1, 27, 300):
        content = np.random.default_rng(length).bytes(length)
        assert ogg_checksum(content) == by_definition(content)


@pytest.mark.parametrize(
    ("head", "size", "samples"),
    [
        ("fffb9064", 417, 1152),  # MPEG 1, layer III, 128 kbit/s, 44.1 kHz
        ("fffb9264", 418, 1152),  # the same, padded
        ("fffbe464", 960, 1152),  # 320 kbit/s, 48 kHz
        ("fff388c4", 288, 576),  # MPEG 2, layer III, 64 kbit/s, 16 kHz
        ("fffd6000", 313, 1152),  # MPEG 1, layer II, 96 kbit/s, 44.1 kHz: 144 × 96000 / 44100
        ("ffff1800", 48, 384),  # MPEG 1, layer I, 32 kbit/s, 32 kHz: 12 × 32000 / 32000 slots of 4
        ("fffb0064", 0, 0),
        ("fffbf064", 0, 0),
        ("ffeb9064", 0, 0),
    ],
)
def test_frames_of_mpeg_audio_have_their_length(head, size, samples):
    assert mpeg.frame_bytes(bytes.fromhex(head)) == size
    if size:
        assert mpeg.frame_samples(bytes.fromhex(head)) == samples


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_without_a_counting_header_is_read_to_its_end(mode, channels, tmp_path):
    rising = sound(4, channels) * np.linspace(0.01, 5, 4 * RATE, dtype=np.float32)[:, None]
    path = tmp_path / "a.mp3"
    soundfile.write(path, rising, RATE, format="MP3", bitrate_mode=mode, compression_level=0.4)
    expected, content = read_mono(path, RATE), path.read_bytes()
    assert len(expected) == len(rising)
    stripped = content[mpeg.frame_bytes(content[:4]) :]
    tags = b"ID3\4\0\0\0\0\1\0" + bytes(128), b"TAG" + b"x" * 125
    for before, after in ((b"", b""), tags):
        path.write_bytes(before + stripped + after)
        found = read_mono(path, RATE)
        # Without the header, the delay of the encoder, in samples before the first, is unknown.
        np.testing.assert_array_equal(found[576 : 576 + len(expected)], expected[: len(found) - 576])
        assert len(found) >= len(expected)
        path.write_bytes(before + content + after)
        np.testing.assert_array_equal(read_mono(path, RATE), expected)


def test_damage_between_frames_of_mpeg_audio_is_told(whole, tmp_path):
    content, _ = whole["layer3.mp3"]
    path, middle = tmp_path / "a.mp3", 0
    while middle < len(content) / 2:
        middle += mpeg.frame_bytes(content[middle : middle + 4])
    path.write_bytes(content[:middle] + b"noise" * 40 + content[middle:])
    with pytest.raises(BadAudio, match=f"200 bytes at byte {middle} are no frame"):
        read_mono(path, RATE)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF - 36])
def test_a_wav_file_from_a_pipe_is_whole(size, whole, tmp_path):
    content, expected = whole["pcm16.wav"]
    path = tmp_path / "piped.wav"
    path.write_bytes(content[:40] + struct.pack("<I", size) + content[44:])
    np.testing.assert_array_equal(read_mono(path, RATE), expected)


def test_a_wav_file_may_have_lost_the_remarks_behind_its_sound(whole, tmp_path):
    content, expected = whole["pcm16.wav"]
    path = tmp_path / "a.wav"
    remarks = b"LIST" + struct.pack("<I", 400) + b"x" * 17
    path.write_bytes(b"RIFF" + struct.pack("<I", len(content) + 400) + content[8:] + remarks)
    np.testing.assert_array_equal(read_mono(path, RATE), expected)
    path.write_bytes(content[:40] + bytes(4) + content[44:])
    with pytest.raises(BadAudio, match="never completed"):
        read_mono(path, RATE)


def test_a_flac_file_from_a_pipe_is_whole(tmp_path):
    path = put(tmp_path, "pcm16.flac", sound(3))
    expected, content = read_mono(path, RATE), bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert Recording(path).header.frames is None
    np.testing.assert_array_equal(read_mono(path, RATE), expected)
    with pytest.raises(BadAudio, match=r"lasts .* s, allowed are 0 to 2"):
        list(Recording(path, Limits(shortest=0, longest=2)).mono(RATE))
    with pytest.raises(BadAudio, match=r"lasts 3 s, allowed are 4 to"):
        list(Recording(path, Limits(shortest=4)).mono(RATE))


BROKEN = {
    "empty.wav": (b"", "is empty"),
    "text.wav": (b"not sound at all\n" * 90, r"is not sound that can be read \(Format not recognised\)"),
    "text.mp3": (b"not sound at all\n" * 90, "no frames of MPEG audio"),
    "random.mp3": (np.random.default_rng(0).bytes(9000), "is not sound that can be read|is cut short|is damaged"),
    "text.flac": (b"not sound at all\n" * 90, "is not sound that can be read"),
    "head.ogg": (b"OggS\0", "is cut short"),
    "head.wav": (b"RIFF\x24\0\0\0WAVE", "ends before its samples begin"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_sound_is_refused_with_its_reason(name, tmp_path, capfd):
    content, reason = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadAudio, match=reason) as caught:
        read_mono(tmp_path / name, RATE)
    assert caught.value.path == tmp_path / name
    assert str(caught.value) == f"'{tmp_path / name}' {caught.value.reason}: fetch it again, or leave it out"
    assert capfd.readouterr() == ("", "")


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "link.wav").symlink_to(tmp_path / "nowhere.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    reasons = {"folder": "is not a file", "pipe": "is not a file", "link": "leads nowhere", "x": "does not exist"}
    for name, reason in reasons.items():
        with pytest.raises(BadAudio, match=reason):
            Recording(tmp_path / f"{name}.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_sample_that_is_not_finite_spoils_a_file(value, tmp_path):
    samples = sound()
    samples[-1, 0] = value
    with pytest.raises(BadAudio, match="NaN or infinite"):
        read_mono(put(tmp_path, "float.wav", samples), RATE)


@pytest.mark.parametrize(("decibels", "silent"), [(-np.inf, True), (-101, True), (-99, False)])
def test_silence_is_what_never_swings(decibels, silent, tmp_path):
    """Relative to a DC offset, as a bad microphone adds."""
    square = np.tile([1.0, -1.0], 4000) * 10 ** (decibels / 20)
    path = put(tmp_path, "float.wav", (square + 0.25).astype(np.float32))
    recording = Recording(path, Limits())
    if silent:
        with pytest.raises(BadAudio, match="is silent"):
            list(recording.mono(RATE))
    else:
        assert sum(map(len, recording.mono(RATE))) == 8000
    assert len(read_mono(path, RATE)) == 8000


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(shortest=0.7), r"lasts 0\.6 s, allowed are 0\.7 to 36000"),
        (Limits(longest=0.5), r"lasts 0\.6 s, allowed are 0\.02 to 0\.5"),
        (Limits(lowest_rate=RATE + 1), "has 16000 Hz, allowed are 16001 to"),
        (Limits(highest_rate=RATE - 1), "has 16000 Hz, allowed are 2000 to 15999"),
        (Limits(most_channels=1), "has 2 channels, allowed are 1 to 1"),
    ],
)
def test_limits_hold(limits, reason, tmp_path):
    path = put(tmp_path, "pcm16.wav", sound(channels=2))
    with pytest.raises(BadAudio, match=reason):
        Recording(path, limits)
    exact = Limits(0.6, 0.6, RATE, RATE, 2)
    assert sum(map(len, Recording(path, exact).mono(RATE))) == len(sound())


def test_limits_have_to_make_sense():
    for wrong in ({"shortest": 2, "longest": 1}, {"shortest": -1}, {"lowest_rate": 9, "highest_rate": 8}):
        with pytest.raises(ValueError, match=r"give two numbers|shortest=-1: give a number of at least 0"):
            Limits(**wrong)
    with pytest.raises(ValueError, match="most_channels=0: give a whole number from 1"):
        Limits(most_channels=0)


def cbin(folder, rec="ADFREQ = 3.2e+004\nChans = 2\nSamples = 5000\n"):
    samples = np.random.default_rng(0).integers(-9000, 9000, (5000, 2)).astype(">i2")
    path = folder / "song.1.cbin"
    path.write_bytes(samples.tobytes())
    if rec:
        (folder / "song.1.rec").write_text(rec)
    return path, samples


def test_the_song_of_a_cbin_file_is_its_first_channel(tmp_path):
    path, samples = cbin(tmp_path)
    np.testing.assert_array_equal(read_mono(path, 32_000), samples[:, 0] / np.float32(32_768))
    recording = Recording(path)
    assert (recording.header.rate, recording.header.channels, recording.header.frames) == (32_000, 2, 5000)
    np.testing.assert_array_equal(
        np.concatenate(list(recording.mono(32_000, 1))), samples[:, 1] / np.float32(32_768)
    )


@pytest.mark.parametrize(
    ("rec", "reason"),
    [
        ("", "no .rec file"),
        ("ADFREQ = 32000\nSamples = 5000\n", "without its channels"),
        ("ADFREQ = 0\nChans = 2\nSamples = 5000\n", "numbers of at least 1"),
        ("ADFREQ = 1e400\nChans = 2\nSamples = 5000\n", "finite numbers"),
        # A regular expression whose blanks match newlines would try each pair of them.
        pytest.param("\n" * 100_000 + "ADFREQ = 1\n", "without its channels", id="lines"),
        ("ADFREQ = 32000\nChans = 2\nSamples = 5001\n", "is cut short"),
        ("ADFREQ = 32000\nChans = 2\nSamples = 4999\n", "does not fit"),
    ],
)
def test_a_cbin_file_has_to_fit_its_rec_file(rec, reason, tmp_path):
    with pytest.raises(BadAudio, match=reason):
        Recording(cbin(tmp_path, rec)[0])


def test_real_songs_are_as_their_description_has_them(shared_data):
    songs = sorted((shared_data / "bengalese_finch" / "gy6or6").glob("*.cbin"))
    assert len(songs) == 14
    seconds = 0.0
    for path in songs:
        samples = read_mono(path, 32_000)
        expected = np.fromfile(path, ">i2").reshape(-1, 2)[:, 0] / np.float32(32_768)
        assert torch.equal(samples, torch.from_numpy(expected))
        seconds += len(samples) / 32_000
    assert seconds == pytest.approx(128.3, abs=0.05)


def test_a_name_is_opened_as_text_on_windows_and_as_the_bytes_that_it_has_elsewhere(monkeypatch):
    """libsndfile takes bytes to be of Windows's code page, where Python's are UTF-8."""
    path = Path(os.fsdecode(b"Vogelges\xc3\xa4nge/\xff.wav"))
    assert openable(path) == b"Vogelges\xc3\xa4nge/\xff.wav"
    monkeypatch.setattr(sys, "platform", "win32")
    assert openable(path) == str(path)
