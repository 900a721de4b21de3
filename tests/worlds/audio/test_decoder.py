"""A file that crashes, hangs or exhausts its decoder is named, and the next one is decoded."""

import gc
import importlib.util
import os
import struct
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from worlds.audio.recorded import RATE, put, sound

from sonarium.worlds.audio import decoder
from sonarium.worlds.audio.containers import ogg_checksum
from sonarium.worlds.audio.decoder import Workers, header_of, opened, read_mono
from sonarium.worlds.audio.file import BadAudio

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "fuzz_sounds.py"
SPOILT = """
import os, signal
from pathlib import Path
own = worker.Recording
def spoilt(path, limits):
    if path.stem == "endless":
        while True: pass
    if path.stem == "greedy":
        return bytearray(2 << 30)
    if path.stem == "program":
        return 1 / 0
    if path.stem in ("SEGV", "BUS", "KILL"):
        os.kill(os.getpid(), getattr(signal, "SIG" + path.stem))
    return own(path, limits)
worker.Recording = spoilt
worker.serve()
"""
"""Code of decoders that fail on files of certain names, as they may fail on damaged files."""


def fuzz_script():
    spec = importlib.util.spec_from_file_location("fuzz_sounds", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_sounds"] = module
    spec.loader.exec_module(module)
    return module


FUZZ = fuzz_script()


@pytest.fixture
def spoilt(monkeypatch):
    """Decoders that run `SPOILT`."""
    workers = Workers()
    monkeypatch.setattr(decoder, "WORKERS", workers)
    monkeypatch.setattr(decoder, "START", decoder.START.replace("worker.serve()", f"exec({SPOILT!r})"))
    yield workers
    workers.abandon()


@pytest.mark.parametrize("suffix", FUZZ.FORMS)
def test_damaged_files_are_named_one_by_one(suffix, tmp_path):
    """None ends or hangs its decoder, or is decoded to a wrong length; intact files are good."""
    tally = FUZZ.fuzz(suffix, 200, seed=1, folder=tmp_path)
    assert tally.faults == {name: [] for name in FUZZ.FAULTS}
    assert tally.inputs == tally.good + tally.bad == 200
    assert 0 < tally.same <= tally.good and tally.bad > 20
    assert tally.memory < FUZZ.BYTES


@pytest.mark.parametrize(
    ("name", "reason", "passing"),
    [
        ("endless", "keeps its decoder busy without end", False),
        ("greedy", r"cannot be decoded \(memory\)", False),
        ("program", r"cannot be decoded \(ZeroDivisionError", False),
        ("SEGV", r"crashes its decoder \(signal 11, SIGSEGV\)", False),
        ("BUS", "was cut short while it was read", True),
        ("KILL", "its decoder was ended", True),
    ],
)
def test_no_file_stops_the_others(name, reason, passing, tmp_path, spoilt):
    good = put(tmp_path, "pcm16.wav")
    bad = tmp_path / f"{name}.wav"
    bad.write_bytes(good.read_bytes())
    for _ in range(2 if name != "endless" else 1):
        with pytest.raises(BadAudio, match=reason) as caught:
            read_mono(bad, RATE)
        assert caught.value.path == bad and caught.value.passing == passing
        assert len(read_mono(good, RATE)) == len(sound())


def test_a_decoder_is_kept_and_one_that_was_left_or_killed_is_not(tmp_path, monkeypatch):
    workers = Workers()
    monkeypatch.setattr(decoder, "WORKERS", workers)
    path = put(tmp_path, "float.wav", sound(30))
    assert len(read_mono(path, RATE)) == len(sound(30))
    (first,) = workers.waiting
    header_of(path)
    assert workers.waiting == [first]
    with opened(path, RATE) as (_, blocks):
        next(blocks)
    assert workers.waiting == [] and first.process.returncode is not None
    read_mono(path, RATE)
    (second,) = workers.waiting
    second.process.kill()
    os.waitid(os.P_PID, second.process.pid, os.WEXITED | os.WNOWAIT)
    assert len(read_mono(path, RATE)) == len(sound(30))
    workers.dismiss()
    assert workers.all == set()


def test_sound_is_decoded_where_the_system_limits_no_process(tmp_path, monkeypatch):
    """As on Windows, which has no `resource`, and `select` of sockets alone."""
    workers = Workers()
    monkeypatch.setattr(decoder, "WORKERS", workers)
    lacking = decoder.START.replace("from sonarium", "sys.modules['resource'] = None; from sonarium")
    monkeypatch.setattr(decoder, "START", lacking.replace("worker.serve", "worker.select = None; worker.serve"))
    good, bad = put(tmp_path, "pcm16.wav"), tmp_path / "bad.wav"
    bad.write_bytes(b"text")
    for _ in range(2):
        assert len(read_mono(good, RATE)) == len(sound())
        with pytest.raises(BadAudio):
            read_mono(bad, RATE)
    workers.abandon()


def test_a_crash_is_told_where_there_are_few_signals(tmp_path, monkeypatch, spoilt):
    path = put(tmp_path, "pcm16.wav").rename(tmp_path / "SEGV.wav")
    for name in ("SIGXCPU", "SIGBUS"):
        monkeypatch.delattr(decoder.signal, name)
    with pytest.raises(BadAudio, match="crashes its decoder"):
        read_mono(path, RATE)


def test_a_decoder_that_waited_for_too_long_is_replaced(tmp_path, monkeypatch):
    """It may exit at any time before it is given a file, without yet being found dead."""
    workers = Workers()
    monkeypatch.setattr(decoder, "WORKERS", workers)
    monkeypatch.setattr(
        decoder, "START", decoder.START.replace("worker.serve()", "worker.IDLE = 0; worker.serve()")
    )
    path = put(tmp_path, "pcm16.wav")
    first = workers.hire()
    os.waitid(os.P_PID, first.process.pid, os.WEXITED | os.WNOWAIT)
    monkeypatch.setattr(workers, "waiting", [first])
    monkeypatch.setattr(first.process, "poll", lambda: None)
    monkeypatch.setattr(decoder, "START", decoder.START.replace("worker.IDLE = 0; ", ""))
    assert header_of(path).frames == len(sound())
    assert first not in workers.all
    workers.abandon()


def test_whoever_waits_for_a_decoder_is_freed(tmp_path, spoilt):
    path = put(tmp_path, "pcm16.wav").rename(tmp_path / "endless.wav")
    found = []

    def wait():
        try:
            read_mono(path, RATE)
        except BadAudio as error:
            found.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not any(not worker.at_rest for worker in spoilt.all):
        thread.join(0.01)
    spoilt.abandon()
    thread.join(60)
    assert found[0].passing


def test_a_fork_has_decoders_of_its_own(tmp_path, capfd):
    path = put(tmp_path, "pcm16.wav")
    read_mono(path, RATE)
    (mine,) = decoder.WORKERS.waiting[-1:]
    if (child := os.fork()) == 0:
        try:
            gc.collect()
            fine = not decoder.WORKERS.all and len(read_mono(path, RATE)) == len(sound())
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert mine in decoder.WORKERS.waiting and mine.process.poll() is None
    assert len(read_mono(path, RATE)) == len(sound())
    assert capfd.readouterr() == ("", "")


def test_a_decoder_that_does_not_start_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(decoder, "WORKERS", Workers())
    monkeypatch.setattr(decoder, "START", "raise SystemExit(3)")
    with pytest.raises(OSError, match=r"did not start \(exit code 3\)"):
        read_mono(put(tmp_path, "pcm16.wav"), RATE)


def test_a_relative_path_is_that_of_the_reader(tmp_path, monkeypatch):
    put(tmp_path, "pcm16.wav")
    header_of(tmp_path / "pcm16.wav")
    monkeypatch.chdir(tmp_path)
    assert header_of(Path("pcm16.wav")).frames == len(sound())


def test_remarks_of_the_decoder_do_not_reach_the_terminal(whole, tmp_path, capfd):
    """libmpg123 warns of a wrong size where data follow the sound."""
    path = tmp_path / "a.mp3"
    path.write_bytes(whole["layer3.mp3"][0] + bytes(9000))
    assert len(read_mono(path, RATE)) == len(sound())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("rate", [1, 1_000_001])
def test_no_sound_of_an_impossible_rate_is_resampled(rate, tmp_path):
    soundfile.write(tmp_path / "a.wav", sound(), rate)
    with pytest.raises(BadAudio, match=f"has {rate} Hz, allowed are 2000 to"):
        read_mono(tmp_path / "a.wav", RATE)


def test_a_low_rate_becomes_a_high_one_in_blocks(tmp_path):
    soundfile.write(tmp_path / "a.wav", sound(10), 2000)
    with opened(tmp_path / "a.wav", 96_000) as (header, blocks):
        lengths = [len(block) for block in blocks]
    assert header.rate == 2000 and sum(lengths) == 48 * len(sound(10))
    assert max(lengths) < 2**19


@pytest.mark.parametrize("size", [0, 1, 23])
def test_a_chunk_of_w64_that_does_not_count_itself_is_told(size, whole, tmp_path):
    """The size of a chunk includes the 24 bytes of its name and of the size itself."""
    content, _ = whole["sony.w64"]
    (tmp_path / "a.w64").write_bytes(content[:56] + struct.pack("<Q", size) + content[64:])
    with pytest.raises(BadAudio, match="impossible size"):
        read_mono(tmp_path / "a.w64", RATE)


@pytest.mark.parametrize("behind", [b"\x55" * 100, bytes(9000)])
def test_what_follows_the_sound_of_w64_is_not_heard(behind, whole, tmp_path):
    content, samples = whole["sony.w64"]
    (tmp_path / "a.w64").write_bytes(content + behind)
    np.testing.assert_array_equal(read_mono(tmp_path / "a.w64", RATE), samples)
    (tmp_path / "a.w64").write_bytes(content + b"\x01" * 9000)
    with pytest.raises(BadAudio, match="9000 bytes follow the sound"):
        read_mono(tmp_path / "a.w64", RATE)


def test_a_sphere_file_is_as_long_as_it_says(tmp_path):
    path = tmp_path / "a.sph"
    soundfile.write(path, sound(), RATE, "PCM_16", format="NIST")
    content = path.read_bytes()
    np.testing.assert_array_equal(read_mono(path, RATE), soundfile.read(path, dtype="float32")[0])
    for altered, reason in ((content[: len(content) // 2], "is cut short"), (content + bytes(9000), "9000 bytes")):
        path.write_bytes(altered)
        with pytest.raises(BadAudio, match=reason):
            read_mono(path, RATE)


@pytest.mark.parametrize("name", ["opus.opus", "vorbis.ogg"])
@pytest.mark.parametrize("seconds", [0.6, 3.0])
def test_a_page_of_ogg_promises_no_more_than_its_packets_hold(name, seconds, tmp_path):
    path = put(tmp_path, name, sound(seconds))
    content = bytearray(path.read_bytes())
    last = content.rindex(b"OggS")
    content[last + 6 : last + 14] = struct.pack("<Q", 48_000 * 3600 * 4)
    content[last + 22 : last + 26] = bytes(4)
    content[last + 22 : last + 26] = ogg_checksum(bytes(content[last:])).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(BadAudio, match=r"promises \d+ samples, and its packets hold \d+ at most"):
        read_mono(path, RATE)


def test_noise_is_looked_through_once(tmp_path):
    """A scan that restarts at each byte would take minutes, and its decoder would be ended."""
    (tmp_path / "a.mp3").write_bytes(np.random.default_rng(0).bytes(10_000_000))
    with pytest.raises(BadAudio, match=r"damaged|cut short|no frames"):
        read_mono(tmp_path / "a.mp3", RATE)


SHRINKING = """
import os
from sonarium.worlds.audio import mpeg
scan, decode = mpeg.runs, worker.Recording
def shrinking(path, limits):
    def runs(content):
        os.truncate(path, 0)
        yield from scan(content)
    mpeg.runs = runs
    return decode(path, limits)
worker.Recording = shrinking
worker.serve()
"""


def test_a_file_that_shrinks_while_it_is_scanned_ends_nothing(tmp_path, monkeypatch):
    """The operating system ends a decoder that reads beyond the end of a mapped file."""
    workers = Workers()
    monkeypatch.setattr(decoder, "WORKERS", workers)
    monkeypatch.setattr(decoder, "START", decoder.START.replace("worker.serve()", f"exec({SHRINKING!r})"))
    with pytest.raises(BadAudio, match="was cut short while it was read") as caught:
        read_mono(put(tmp_path, "layer3.mp3", sound(20)), RATE)
    assert caught.value.passing
    workers.abandon()
