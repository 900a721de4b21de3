"""Pictures of handwritten digits: scikit-learn's, or MNIST's idx files (LeCun & Cortes, 1998) from disk."""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.worlds.contract import Batch, Factor, Signal, World, WorldEntry

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
EXPECTED = (
    f"files named like train-{IMAGES} and t10k-{IMAGES}, raw or .gz, with their train-{LABELS} "
    f"and t10k-{LABELS} beside them"
)


@dataclass(frozen=True)
class DigitsConfig:
    """Handwritten digits as pictures."""

    path: str | None = None
    """Folder of MNIST idx files, or one file of images; by default scikit-learn's 1,797 images of 8 × 8."""


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Contents of an idx file of bytes, as an array of this many dimensions."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read ({error}): fetch it again") from error
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic:
        raise ValueError(
            f"{path} begins with the bytes {content[:4].hex() or '(none)'}, an idx file of bytes in "
            f"{dimensions} dimension(s) with {magic.hex()}: give the file under its own name"
        )
    sizes = [content[at : at + 4] for at in range(4, header, 4)]
    shape = tuple(int.from_bytes(size, "big") for size in sizes)
    if len(content) != header + math.prod(shape):
        raise ValueError(
            f"{path} has {len(content)} bytes, its header speaks of the shape {shape}: "
            "it was cut short or altered; fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def image_files(path: Path) -> list[Path]:
    """Image files at this path, training files first."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"there is no folder or file at {path}: give a folder with {EXPECTED}")
    found = [file for file in sorted(path.iterdir()) if file.name.removesuffix(".gz").endswith(IMAGES)]
    # If a file is there both raw and gzipped, only the raw one is read.
    files = [file for file in found if file.suffix != ".gz" or file.with_suffix("") not in found]
    if not files:
        raise ValueError(f"{path} holds no idx files of images: it should have {EXPECTED}")
    return sorted(files, key=lambda file: (not file.name.startswith("train"), file.name))


def labels_beside(images: Path) -> Path:
    """Label file that belongs to an image file, raw or gzipped."""
    raw = images.with_name(images.name.removesuffix(".gz").replace(IMAGES, LABELS))
    for candidate in (raw, raw.with_name(raw.name + ".gz")):
        if candidate != images and candidate.is_file():
            return candidate
    raise ValueError(f"{images} has no labels: put {raw.name} or {raw.name}.gz beside it")


def read_pair(images: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of one image file, with their labels."""
    beside = labels_beside(images)
    pictures, labels = read_idx(images, 3), read_idx(beside, 1)
    if len(pictures) != len(labels):
        raise ValueError(
            f"{images} has {len(pictures)} pictures, {beside} has {len(labels)} labels: "
            "give the two files of one set"
        )
    if pictures.size == 0:
        raise ValueError(f"{images} holds no pictures: fetch it again")
    if labels.max() > 9:
        raise ValueError(f"{beside} has the label {labels.max()}: digits have labels 0 to 9")
    return pictures, labels


class Digits(World):
    """Digits held in memory as bytes and returned as pictures in [0, 1]; the seed has no effect."""

    name = "digits"
    factors = (Factor("class", tuple("0123456789")),)

    def __init__(self, config: DigitsConfig, seed: int) -> None:
        if config.path is None:
            # Importing scikit-learn takes a second, which `--help` should not wait for.
            from sklearn.datasets import load_digits

            rows, labels = load_digits(return_X_y=True)
            pictures, labels, self.white = np.uint8(rows).reshape(-1, 8, 8), np.asarray(labels), 16
        else:
            pairs = [read_pair(file) for file in image_files(Path(config.path))]
            sizes = {pictures.shape[1:] for pictures, _ in pairs}
            if len(sizes) > 1:
                raise ValueError(f"{config.path} has pictures of sizes {sorted(sizes)}: keep those of one size")
            pictures = np.concatenate([pictures for pictures, _ in pairs])
            labels, self.white = np.concatenate([labels for _, labels in pairs]), 255
        self.pictures = torch.from_numpy(pictures)
        self.labels = torch.from_numpy(labels.astype(np.int64))
        self.signal = Signal("picture", tuple(pictures.shape[1:]))

    def __len__(self) -> int:
        return len(self.labels)

    def whole(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        at = index.cpu()
        signal = self.pictures[at].float() / self.white
        return Batch(index.to(device), signal.to(device), self.factor_values(index).to(device))

    def factor_values(self, index: Int[Tensor, " clip"]) -> Float[Tensor, "clip factor"]:
        return self.labels[index.cpu()][:, None].float()


DIGITS = WorldEntry(
    "handwritten digits: scikit-learn's, or MNIST from a folder",
    "picture",
    DigitsConfig,
    lambda config, seed, progress: Digits(config, seed),
)
