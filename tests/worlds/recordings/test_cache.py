"""The cache of decoded sound: stored once, keyed by content, rebuilt if damaged, and read in constant memory."""

import gc
import json
import os
import pickle
import resource
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from full_disk import no_room_beyond

from sonarium.worlds.audio.decoder import WORKERS
from sonarium.worlds.audio.file import BadAudio, Limits
from sonarium.worlds.recordings import cache as module
from sonarium.worlds.recordings.cache import Decoding, content_of, default_folder, in_order, open_cache

RATE = 8_000
EXACT = Decoding(RATE, "int16", None, Limits())


def write(path: Path, seconds=0.5, rate=RATE, seed=0, subtype="PCM_16", peak=0.3):
    samples = np.random.default_rng(seed).uniform(-peak, peak, round(seconds * rate)).astype(np.float32)
    soundfile.write(path, samples, rate, subtype)
    return path


@pytest.fixture
def files(tmp_path):
    """Three sound files, one of them bad, by the hash of their content."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    paths = [write(folder / f"{name}.wav", seed=seed) for seed, name in enumerate(("a", "b ü"))]
    (folder / "bad.wav").write_text("text")
    return {content_of(path): path for path in [*paths, folder / "bad.wav"]}


def read(cache, content):
    entry = cache.entries[content]
    out = np.empty(entry.length, np.float32)
    cache.read(entry.offset, entry.scale, out)
    return out


def names(folder):
    return sorted(path.suffix for path in folder.iterdir())


def count_decoding(monkeypatch):
    decoded = []
    own = module.decode
    monkeypatch.setattr(module, "decode", lambda path, *rest: decoded.append(path.name) or own(path, *rest))
    return decoded


def test_sound_of_16_bits_is_kept_exactly_and_decoded_once(tmp_path, files, monkeypatch):
    decoded = count_decoding(monkeypatch)
    told = []
    for _ in range(2):
        cache = open_cache(tmp_path / "cache", files, EXACT, lambda *now: told.append(now))
        good = list(files)[:2]
        assert list(cache.entries) == good
        assert list(cache.faults) == list(files)[2:]
        assert "is not sound that can be read" in next(iter(cache.faults.values()))
        for content in good:
            np.testing.assert_array_equal(read(cache, content), soundfile.read(files[content], dtype="float32")[0])
    assert sorted(decoded) == ["a.wav", "b ü.wav", "bad.wav"]
    assert told == [("decoding files", done, 3) for done in (1, 2, 3)]
    assert names(tmp_path / "cache") == [".json", ".lock", ".samples"]


@pytest.mark.parametrize("store", ["int16", "float32"])
@pytest.mark.parametrize("peak", [1e-4, 0.3, 1.7])
def test_other_sound_is_kept_as_finely_as_it_can_be(store, peak, tmp_path):
    path = write(tmp_path / "a.wav", rate=11_025, subtype="FLOAT", peak=peak)
    content = content_of(path)
    cache = open_cache(tmp_path / "cache", {content: path}, replace(EXACT, store=store))
    expected = soxr.resample(soundfile.read(path, dtype="float32")[0], 11_025, RATE)
    error = 0 if store == "float32" else np.abs(expected).max() / (2**15 - 1) * 0.51
    np.testing.assert_allclose(read(cache, content), expected, rtol=0, atol=error)


@pytest.mark.parametrize("lowest", [-32_768, -32_767])
def test_the_lowest_integer_is_kept_too(lowest, tmp_path):
    samples = np.array([lowest, 32_767, 0, 1, -1] * 100, np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    content = content_of(tmp_path / "a.wav")
    cache = open_cache(tmp_path / "cache", {content: tmp_path / "a.wav"}, EXACT)
    np.testing.assert_array_equal(read(cache, content), samples / np.float32(32_768))


def test_a_long_file_goes_through_the_disk(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", seconds=5)
    content = content_of(path)
    monkeypatch.setattr(module, "AT_ONCE", 1000)
    cache = open_cache(tmp_path / "cache", {content: path}, EXACT)
    np.testing.assert_array_equal(read(cache, content), soundfile.read(path, dtype="float32")[0])
    assert names(tmp_path / "cache") == [".json", ".lock", ".samples"]


def test_content_is_what_counts_not_name_size_or_time(tmp_path, monkeypatch):
    decoded = count_decoding(monkeypatch)
    path = write(tmp_path / "a.wav")
    before, first = path.stat(), content_of(path)
    opened = open_cache(tmp_path / "cache", {first: path}, EXACT)
    os.utime(path, (1, 1))
    moved = path.rename(tmp_path / "other name.wav")
    assert content_of(moved) == first
    assert open_cache(tmp_path / "cache", {first: moved}, EXACT).path == opened.path
    assert decoded == ["a.wav"]
    write(moved, seed=1)
    os.utime(moved, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (moved.stat().st_size, moved.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = content_of(moved)
    assert second != first
    other = open_cache(tmp_path / "cache", {second: moved}, EXACT)
    assert other.path != opened.path
    assert not np.array_equal(read(other, second), read(opened, first))


@pytest.mark.parametrize(
    "other",
    [{"rate": 4_000}, {"store": "float32"}, {"channel": 0}, {"limits": Limits(shortest=0.1)}],
    ids=lambda change: next(iter(change)),
)
def test_another_way_to_decode_has_another_cache(other, tmp_path, files):
    one = open_cache(tmp_path / "cache", files, EXACT)
    assert open_cache(tmp_path / "cache", files, replace(EXACT, **other)).path != one.path


def test_a_cbin_file_is_another_one_with_another_rate(tmp_path):
    path, rec = tmp_path / "a.cbin", tmp_path / "a.rec"
    path.write_bytes(bytes(400))
    found = set()
    for text in ("ADFREQ = 32000", "ADFREQ = 16000", None):
        rec.write_text(text) if text else rec.unlink()
        found.add(content_of(path))
    assert len(found) == 3
    assert content_of(path.rename(tmp_path / "a.wav")) not in found


def altered(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "samples cut": (".samples", lambda path: os.truncate(path, path.stat().st_size - 2), "not as many"),
    "samples longer": (".samples", lambda path: os.truncate(path, path.stat().st_size + 2), "not as many"),
    "samples gone": (".samples", lambda path: path.unlink(), "not as many"),
    "first sample": (".samples", lambda path: altered(path, 0), "samples were altered"),
    "last sample": (".samples", lambda path: altered(path, -1), "samples were altered"),
    "index cut": (".json", lambda path: os.truncate(path, 60), "cannot be read"),
    "index empty": (".json", lambda path: path.write_text(""), "cannot be read"),
    "index of another kind": (".json", lambda path: path.write_text("[1, 2]"), "cannot be read"),
    "index altered": (".json", lambda path: path.write_text(path.read_text().replace("0.3", "0.4").replace(
        '"length"', '"l"').replace(str(RATE), str(RATE + 1))), "index was altered"),
    "index gone": (".json", lambda path: path.unlink(), None),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_the_cache_made_anew(kind, tmp_path, files, monkeypatch):
    monkeypatch.setattr(module, "CHECKED", 1000)
    suffix, spoil, reason = DAMAGE[kind]
    whole = open_cache(tmp_path / "cache", files, EXACT)
    expected = {content: read(whole, content) for content in whole.entries}
    spoil(whole.path.with_suffix(suffix))
    mended = open_cache(tmp_path / "cache", files, EXACT)
    assert (mended.damage is None) if reason is None else reason in str(mended.damage)
    for content, samples in expected.items():
        np.testing.assert_array_equal(read(mended, content), samples)
    assert open_cache(tmp_path / "cache", files, EXACT).damage is None


AT_ONCE = """
import json, sys, time
from pathlib import Path
import numpy as np
from sonarium.worlds.recordings import cache as module
from sonarium.worlds.audio.file import Limits
folder, decoded, own = Path(sys.argv[1]), [], module.decode
module.decode = lambda path, *rest: decoded.append(path.name) or time.sleep(0.1) or own(path, *rest)
files = {module.content_of(path): path for path in sorted((folder / "sounds").iterdir())}
print("ready", flush=True)
sys.stdin.readline()
cache = module.open_cache(folder / "cache", files, module.Decoding(8000, "int16", None, Limits()))
sums = []
for entry in cache.entries.values():
    part = np.empty(entry.length, np.float32)
    cache.read(entry.offset, 1.0, part)
    sums.append(float(np.abs(part.astype(int)).sum()))
print(json.dumps([len(decoded), sums]))
"""


def test_two_processes_at_once_make_one_cache(tmp_path, files):
    words = [sys.executable, "-c", AT_ONCE, str(tmp_path)]
    both = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    (first, sums), (second, same) = (json.loads(process.communicate(timeout=60)[0]) for process in both)
    assert sorted((first, second)) == [0, 3]
    assert sums == same
    assert len(sums) == 2
    assert names(tmp_path / "cache") == [".json", ".lock", ".samples"]


def test_a_full_disk_ends_in_one_line_and_leaves_nothing(tmp_path, files):
    with no_room_beyond(5000), pytest.raises(OSError, match=r"cannot write .*samples.*nothing was left") as caught:
        open_cache(tmp_path / "cache", files, EXACT)
    assert "\n" not in str(caught.value)
    assert names(tmp_path / "cache") == [".lock"]
    assert len(open_cache(tmp_path / "cache", files, EXACT).entries) == 2


def test_a_disk_that_is_full_for_what_waits_ends_in_one_line(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", seconds=3)
    monkeypatch.setattr(module, "AT_ONCE", 1000)
    with no_room_beyond(5000), pytest.raises(OSError, match=r"cannot write .*nothing was left"):
        open_cache(tmp_path / "cache", {content_of(path): path}, EXACT)
    assert names(tmp_path / "cache") == [".lock"]


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: write(path, 0.1, seed=9)])
def test_a_file_that_changes_while_it_is_read_is_not_kept_as_it_was(change, tmp_path, files, monkeypatch):
    path = next(iter(files.values()))
    whole, own = path.read_bytes(), module.decode

    def decode_late(source, *rest):
        if source == path:
            change(path)
        return own(source, *rest)

    monkeypatch.setattr(module, "decode", decode_late)
    with pytest.raises(ValueError, match=r"a.wav' was changed while it was read: run the same again"):
        open_cache(tmp_path / "cache", files, EXACT)
    monkeypatch.setattr(module, "decode", own)
    path.write_bytes(whole)
    cache = open_cache(tmp_path / "cache", files, EXACT)
    assert len(cache.entries) == 2 and cache.faults.keys() == {content_of(path.with_name("bad.wav"))}


def test_a_cache_that_was_pickled_reads_its_own_file(tmp_path, files):
    """As in the processes of a loader on a Mac or on Windows, where another file may have the same descriptor."""
    cache = open_cache(tmp_path / "cache", files, EXACT)
    found, packed, descriptor = {one: read(cache, one) for one in cache.entries}, pickle.dumps(cache), cache.file
    del cache
    gc.collect()
    with open(os.devnull, "rb") as other:
        os.dup2(other.fileno(), descriptor)
    try:
        again = pickle.loads(packed)
        for content, samples in found.items():
            np.testing.assert_array_equal(read(again, content), samples)
    finally:
        os.close(descriptor)


def test_the_cache_is_read_where_the_system_reads_only_from_where_a_file_stands(tmp_path, files, monkeypatch):
    cache = open_cache(tmp_path / "cache", files, EXACT)
    found = {content: read(cache, content) for content in cache.entries}
    monkeypatch.delattr(os, "preadv")
    for content, samples in found.items():
        np.testing.assert_array_equal(read(cache, content), samples)


def test_a_cache_that_is_cut_short_while_it_is_read_is_told_and_made_anew(tmp_path, files):
    cache = open_cache(tmp_path / "cache", files, EXACT)
    first, second = cache.entries
    expected = read(cache, second)
    os.truncate(cache.path, cache.entries[second].offset * 2 + 100)
    read(cache, first)
    with pytest.raises(OSError, match=r"samples' was cut short while it was read: give the same command again"):
        read(cache, second)
    mended = open_cache(tmp_path / "cache", files, EXACT)
    assert mended.damage is not None
    np.testing.assert_array_equal(read(mended, second), expected)


def test_a_fault_that_may_pass_is_not_kept(tmp_path, files, monkeypatch):
    content, path = next(iter(files.items()))
    own = module.decode

    def unlucky(source, *rest):
        return BadAudio(source, "cannot be opened", passing=True) if source == path else own(source, *rest)

    monkeypatch.setattr(module, "decode", unlucky)
    for _ in range(2):
        cache = open_cache(tmp_path / "cache", files, EXACT)
        assert len(cache.entries) == 1 and cache.faults[content] == "cannot be opened"
    monkeypatch.setattr(module, "decode", own)
    cache = open_cache(tmp_path / "cache", files, EXACT)
    assert len(cache.entries) == 2 and content not in cache.faults
    assert "lacks 1 file(s) that could not be read" in str(cache.damage)
    assert open_cache(tmp_path / "cache", files, EXACT).damage is None


def test_a_machine_without_a_handle_left_calls_no_file_bad(tmp_path, files):
    """Whichever is opened last: the decoder, a file or the cache."""
    taken, (soft, hard) = len(os.listdir("/proc/self/fd")), resource.getrlimit(resource.RLIMIT_NOFILE)
    made = []
    for spare in (0, 2, 4, 6, 8):
        WORKERS.dismiss()
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken + spare, hard))
        try:
            with suppress(OSError):
                made.append((spare, len(open_cache(tmp_path / f"{spare}", files, EXACT).faults)))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(made) < 5 and {faults for _, faults in made} <= {1}
    cache = open_cache(tmp_path / "0", files, EXACT)
    assert len(cache.entries) == 2 and len(cache.faults) == 1


def test_what_a_killed_process_left_is_swept(tmp_path, files):
    folder = tmp_path / "cache"
    name = module.name_of(files, EXACT)
    folder.mkdir()
    (folder / f".{name}.samples.12345.partial").write_bytes(bytes(100))
    open_cache(folder, files, EXACT)
    assert names(folder) == [".json", ".lock", ".samples"]


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path, files):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot keep decoded sound in .*--cache"):
        open_cache(tmp_path / "file", files, EXACT)


def test_nothing_but_bad_files_makes_an_empty_cache(tmp_path, files):
    content, path = list(files.items())[2]
    for _ in range(2):
        cache = open_cache(tmp_path / "cache", {content: path}, EXACT)
        assert not cache.entries
        assert cache.bytes == 0


def test_the_cache_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "sonarium" / "recordings"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder() == tmp_path / "home" / ".cache" / "sonarium" / "recordings"


def test_work_by_threads_comes_in_order_and_stops_at_a_fault():
    assert list(in_order(lambda number: number * 2, range(100))) == list(range(0, 200, 2))
    taken, begun = [], []

    def work(number):
        begun.append(number)
        if number == 5:
            raise ValueError("five")
        return number

    with pytest.raises(ValueError, match="five"):
        taken.extend(in_order(work, range(10_000)))
    assert len(begun) < 100


MEMORY = """
import sys, json
from pathlib import Path
import numpy as np
from sonarium.worlds.recordings import cache as module
from sonarium.worlds.audio.file import Limits
folder = Path(sys.argv[1])
module.AT_ONCE = 500_000
def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
def read_all(paths):
    files = {module.content_of(path): path for path in paths}
    cache = module.open_cache(folder / "cache", files, module.Decoding(8000, "int16", None, Limits()))
    out, mapped = np.empty(20_000, np.float32), 0
    for entry in cache.entries.values():
        for at in range(entry.offset, entry.offset + entry.length - len(out), len(out)):
            cache.read(at, entry.scale, out)
            mapped = max(mapped, resident("RssFile"))
    return mapped, cache.bytes
paths = sorted((folder / "sounds").iterdir())
read_all(paths[:2])
mapped, before = resident("RssFile"), resident("VmHWM")
found, size = read_all(paths)
print(json.dumps([size, found - mapped, resident("VmHWM") - before]))
"""


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(16):
        soundfile.write(folder / f"{number:02d}.wav", random.integers(-9000, 9000, 1_500_000, np.int16), 8000)
    words = [sys.executable, "-c", MEMORY, str(tmp_path)]
    told = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120).stdout
    size, mapped, peak = json.loads(told)
    assert size == 16 * 3_000_000
    # All pages together would be 48 MB, all decoded sound 96 MB.
    assert mapped < 8_000_000
    assert peak < 30_000_000
