"""Digits from scikit-learn and from idx files; refused files."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sonarium.worlds.digits import Digits, DigitsConfig


def idx(array: np.ndarray) -> bytes:
    """An idx file of bytes, as LeCun's page describes it."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def folder(place: Path, parts=("train", "t10k"), packed=False) -> np.ndarray:
    """Write a small MNIST, and return the pictures in the order in which they are read."""
    kept = []
    for number, part in enumerate(parts):
        pictures = np.random.default_rng(number).integers(0, 256, (5 + number, 6, 4), dtype=np.uint8)
        labels = (np.arange(5 + number) % 10).astype(np.uint8)
        for name, array in (("images-idx3-ubyte", pictures), ("labels-idx1-ubyte", labels)):
            file = place / f"{part}-{name}{'.gz' if packed else ''}"
            file.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
        kept.append(pictures)
    return np.concatenate(kept)


def test_the_built_in_digits_are_scikit_learns():
    world, (rows, labels) = Digits(DigitsConfig(), seed=0), load_digits(return_X_y=True)
    batch = world.whole(torch.tensor([5, 0, 1796]))
    assert len(world) == 1797 and world.signal.kind == "picture" and world.signal.shape == (8, 8)
    np.testing.assert_array_equal(batch.signal.numpy(), np.float32(rows.reshape(-1, 8, 8)[[5, 0, 1796]] / 16))
    np.testing.assert_array_equal(batch.factors[:, 0].numpy(), labels[[5, 0, 1796]])
    assert world.factors[0].discrete and world.factors[0].values == tuple("0123456789")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("parts", [("train", "t10k"), ("t10k",), ("train",)])
def test_idx_files_are_read_raw_and_packed_those_for_training_first(tmp_path, packed, parts):
    pictures = folder(tmp_path, parts, packed)
    world = Digits(DigitsConfig(str(tmp_path)), seed=0)
    batch = world.whole(torch.arange(len(world)))
    np.testing.assert_array_equal(batch.signal.numpy(), np.float32(pictures) / 255)
    assert batch.factors[:5, 0].tolist() == [0, 1, 2, 3, 4]
    assert world.signal.shape == (6, 4)


def test_raw_and_packed_side_by_side_count_once_and_one_file_can_be_named(tmp_path):
    folder(tmp_path)
    folder(tmp_path, packed=True)
    assert len(Digits(DigitsConfig(str(tmp_path)), 0)) == 11
    assert len(Digits(DigitsConfig(str(tmp_path / "t10k-images-idx3-ubyte.gz")), 0)) == 6


def test_the_official_test_images(shared_data):
    world = Digits(DigitsConfig(str(shared_data / "mnist")), seed=0)
    batch = world.whole(torch.arange(10000))
    assert len(world) == 10000 and world.signal.shape == (28, 28)
    assert batch.factors[:5, 0].tolist() == [7, 2, 1, 0, 4]
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.bincount(batch.factors[:, 0].long()).tolist() == counts
    assert batch.signal.min() == 0 and batch.signal.max() == 1


def test_a_missing_place_says_what_is_expected(tmp_path):
    for place, told in ((tmp_path / "none", "no folder or file at"), (tmp_path, "holds no idx files")):
        with pytest.raises(ValueError, match=f"{told}.*train-images-idx3-ubyte"):
            Digits(DigitsConfig(str(place)), 0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", r"\(none\)"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x01\x05", "begins with the bytes 00000801"),
        (b"<html>", "begins with the bytes 3c68746d"),
        (idx(np.zeros((5, 6, 4), np.uint8))[:-1], "cut short"),
        (idx(np.zeros((5, 6, 4), np.uint8))[:9], "cut short"),
        (idx(np.zeros((5, 6, 4), np.uint8)) + b"x", "cut short or altered"),
        (idx(np.zeros((4, 6, 4), np.uint8)), "4 pictures.*5 labels"),
    ],
)
def test_wrong_images_are_refused_by_name(tmp_path, content, told):
    folder(tmp_path, ("train",))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=told) as caught:
        Digits(DigitsConfig(str(tmp_path)), 0)
    assert "train-images-idx3-ubyte" in str(caught.value)


def test_cut_archives_missing_labels_and_odd_labels_are_refused(tmp_path):
    folder(tmp_path, ("train",), packed=True)
    images, labels = (tmp_path / f"train-{name}-ubyte.gz" for name in ("images-idx3", "labels-idx1"))
    whole = images.read_bytes()
    for cut in (whole[:-9], whole[:15], b"not packed"):
        images.write_bytes(cut)
        with pytest.raises(ValueError, match=r"cannot be read.*fetch it again"):
            Digits(DigitsConfig(str(tmp_path)), 0)
    images.write_bytes(whole)
    labels.write_bytes(gzip.compress(idx(np.full(5, 11, np.uint8))))
    with pytest.raises(ValueError, match="the label 11"):
        Digits(DigitsConfig(str(tmp_path)), 0)
    labels.unlink()
    with pytest.raises(ValueError, match="has no labels"):
        Digits(DigitsConfig(str(tmp_path)), 0)
    folder(tmp_path, ("train",), packed=False)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((2, 3, 3), np.uint8)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(2, np.uint8)))
    with pytest.raises(ValueError, match="keep those of one size"):
        Digits(DigitsConfig(str(tmp_path)), 0)


def test_a_set_without_pictures_is_refused(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((0, 6, 4), np.uint8)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(0, np.uint8)))
    with pytest.raises(ValueError, match="holds no pictures"):
        Digits(DigitsConfig(str(tmp_path)), 0)
