"""The loops of `arrivals.py`, `soundbank.py` and `fourier.py` in torch, for thousands of rooms on a GPU.

The steps and their order are the same: beam tests, obstruction tests, delay and amplitude of each image, and the
sum of the windowed sincs. The arrays of a room are copied to the device only when the room changes.
"""

import math

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from sonarium.rooms.acoustics.arrivals import NEAREST
from sonarium.rooms.acoustics.images import ASIDE, ENDS
from sonarium.rooms.acoustics.slots import Slots
from sonarium.rooms.acoustics.soundbank import Bank

OF_ROOMS = (
    "apex", "lines", "links", "gain", "beams", "heights", "height_gain", "corners", "walls", "convex", "air",
    "speed", "head",
)  # fmt: skip
ARRIVALS = 2**20
"""Number of arrivals that are added to responses at a time."""


class CudaBackend:
    """Rooms and sounds on a torch device."""

    def __init__(self, slots: Slots, bank: Bank, filters: Float[np.ndarray, "band tap"], device: torch.device):
        self.slots, self.bank, self.device = slots, bank, device
        self.filters = torch.from_numpy(filters).to(device)
        self.stale: set[int] = set()
        self.rooms: dict[str, Tensor] = {}
        self.taps = torch.from_numpy(slots.taps).to(device)
        self.centres = torch.from_numpy(slots.centres).float().to(device)
        self.samples, self.version = torch.zeros(0), -1

    def there(self, array: np.ndarray) -> Tensor:
        """The array as a tensor on the device."""
        return torch.from_numpy(array).to(self.device)

    def here(self, tensor: Tensor) -> np.ndarray:
        """The tensor as an array in main memory."""
        return tensor.cpu().numpy()

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, device=self.device)

    def changed(self, slot: int) -> None:
        """Copy this slot's room to the device again before it is next rendered."""
        self.stale.add(slot)

    def send(self) -> None:
        """Copy changed rooms and sounds to the device."""
        rows = np.array(sorted(self.stale), np.int64)
        for name in OF_ROOMS:
            array = getattr(self.slots, name)
            kept = self.rooms.get(name)
            if kept is None or kept.shape != array.shape:
                self.rooms[name] = self.to_device(array)
            elif len(rows):
                kept[torch.from_numpy(rows).to(self.device)] = self.to_device(array[rows])
        self.stale.clear()
        if self.bank.version != self.version:
            self.samples, self.version = torch.from_numpy(self.bank.samples).to(self.device), self.bank.version

    def to_device(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        return tensor.float() if tensor.is_floating_point() else tensor

    def segments(
        self,
        chosen: Int[np.ndarray, " chosen"],
        start: Int[np.ndarray, " chosen"],
        ends: Int[np.ndarray, "chosen source"],
        count: int,
        size: int,
    ) -> Float[Tensor, "segment size"]:
        """`Bank.segments`, flattened over sources."""
        self.send()
        rows, lengths = self.bank.rows[chosen], self.bank.lengths
        first = (self.bank.offsets[chosen] + start[:, None]) % lengths[rows]
        sounding = np.clip(ends - start[:, None], 0, count)
        at, row, length, end = (
            torch.from_numpy(array).to(self.device)[..., None] for array in (first, rows, lengths[rows], sounding)
        )
        time = torch.arange(size, device=self.device)
        return torch.where(time < end, self.samples[row, (at + time) % length], 0.0).flatten(0, 1)

    def spectra(self, signals: Float[Tensor, "signal size"]) -> Complex[Tensor, "signal bin"]:
        return torch.fft.rfft(signals)

    def convolve(
        self,
        out: Float[np.ndarray, "row ear time"] | Float[Tensor, "row ear time"],
        rows: Int[np.ndarray, " chosen"],
        slots: Int[np.ndarray, " chosen"],
        ears: Float[np.ndarray, "chosen ear 5"],
        length: int,
        sounds: Complex[Tensor, "sound block bin"],
        playing: Int[np.ndarray, "chosen source"],
    ) -> None:
        """Render the binaural signals of the blocks that each source plays into rows `rows` of `out`."""
        size = 2 * (sounds.shape[-1] - 1)
        spectra = torch.fft.rfft(self.responses(slots, ears, length), size)
        if len(self.filters):
            spectra = spectra * torch.fft.rfft(self.filters, size)
        played = sounds[torch.from_numpy(playing).to(self.device)]
        mixed = (played[:, :, None] * spectra.sum(dim=3)[:, :, :, None]).sum(dim=1)
        blocks = torch.fft.irfft(mixed, size)[..., length - 1 :]
        heard = rearrange(blocks, "chosen ear block sample -> chosen ear (block sample)")[..., : out.shape[-1]]
        if isinstance(out, np.ndarray):
            out[rows] = self.here(heard)
        else:
            out[rows] = heard

    def responses(
        self, chosen: Int[np.ndarray, " chosen"], ears: Float[np.ndarray, "chosen ear 5"], length: int
    ) -> Float[Tensor, "chosen source ear band length"]:
        """As `Slots.responses`."""
        self.send()
        here = torch.from_numpy(chosen).to(self.device)
        room = {name: self.rooms[name][here] for name in OF_ROOMS}
        listeners = self.to_device(ears)
        within = self.within(room, listeners) & self.to_device(self.slots.heard[chosen])[:, :, None, None]
        if not self.slots.convex[chosen].all():
            within &= self.look_back(room, listeners, within) | room["convex"][:, None, None, None]
        shape = (len(chosen), self.slots.sources, ears.shape[1], self.slots.columns, length)
        out = torch.zeros(math.prod(shape), device=self.device)
        beams = within.nonzero()
        for part in beams.split(max(1, ARRIVALS // room["heights"].shape[2])):
            self.lay(out, part, room, listeners, shape)
        return out.view(shape)

    def within(
        self, room: dict[str, Tensor], listeners: Float[Tensor, "chosen ear 5"]
    ) -> Bool[Tensor, "chosen source ear beam"]:
        """Which beams each ear lies in."""
        x, y = (rearrange(listeners[..., axis], "chosen ear -> chosen 1 ear 1") for axis in (0, 1))
        lines = rearrange(room["lines"], "chosen source line beam -> line chosen source 1 beam")
        # As in `stand_in`.
        rounding = 4 * torch.finfo(lines.dtype).eps
        aside = ASIDE + rounding * (x.abs() + y.abs())
        right, left = (one * x + other * y + offset for one, other, offset in (lines[:3], lines[3:]))
        inner = (right >= -aside - rounding * lines[2].abs()) & (left >= aside + rounding * lines[5].abs())
        number = torch.arange(lines.shape[-1], device=self.device)
        return inner & (number < room["beams"][:, :, None, None])

    def look_back(
        self,
        room: dict[str, Tensor],
        listeners: Float[Tensor, "chosen ear 5"],
        within: Bool[Tensor, "chosen source ear beam"],
    ) -> Bool[Tensor, "chosen source ear beam"]:
        """For which beams the path back to the source, segment by segment, is unobstructed."""
        free = torch.zeros_like(within)
        slot, source, ear, beam = within.nonzero().T
        if len(beam) == 0:
            return free
        at, place = listeners[slot, ear, :2], (slot, source, ear, beam)
        came_from, open_way = torch.full_like(beam, -1), torch.ones_like(beam, dtype=torch.bool)
        there = torch.zeros_like(open_way)
        corners, walls = room["corners"][slot], room["walls"][slot]
        start, along = corners[..., :2], corners[..., 2:] - corners[..., :2]
        number = torch.arange(corners.shape[1], device=self.device)
        for _ in range(self.slots.order + 1):
            toward = room["links"][slot, source, beam, 0].long()
            leg = room["apex"][slot, source, beam] - at
            reflecting = toward >= 0
            wall = toward.clamp(min=0)[:, None, None].expand(-1, 1, 2)
            on_leg, _ = meet(at, leg, start.gather(1, wall), along.gather(1, wall))
            leg = torch.where(reflecting[:, None], leg * on_leg, leg)
            on_leg, on_wall = meet(at, leg, start, along)
            cut = (on_leg > ENDS_SINGLE) & (on_leg < 1 - ENDS_SINGLE) & (on_wall >= 0) & (on_wall <= 1)
            other = (number != toward[:, None]) & (number != came_from[:, None]) & (number < walls[:, None])
            open_way &= there | ~(cut & other).any(dim=1)
            there |= ~reflecting
            at, came_from = at + leg, toward
            beam = torch.where(there, beam, room["links"][slot, source, beam, 1].long().clamp(min=0))
        free[place] = open_way
        return free

    def lay(
        self,
        out: Float[Tensor, " cell"],
        beams: Int[Tensor, "beam 4"],
        room: dict[str, Tensor],
        listeners: Float[Tensor, "chosen ear 5"],
        shape: tuple[int, ...],
    ) -> None:
        """Add the arrivals of these beams (slot, source, ear, beam) to the responses."""
        slot, source, ear, beam = beams.T
        ear_place = listeners[slot, ear]
        plan = room["apex"][slot, source, beam] - ear_place[:, :2]
        heights, height_gain = room["heights"][slot, source], room["height_gain"][slot, source]
        up = heights - ear_place[:, 2:3]
        distance = (plan.square().sum(dim=1, keepdim=True) + up.square()).sqrt().clamp(min=NEAREST)
        levels = torch.ones_like(beam)
        if heights.shape[1] > 1:
            levels = 1 + 2 * (self.slots.order - room["links"][slot, source, beam, 2].long())
        reached = torch.arange(heights.shape[1], device=self.device) < levels[:, None]
        head = room["head"][slot][:, None]
        cosine = ((plan * ear_place[:, 3:]).sum(dim=1, keepdim=True) / distance).clamp(-1, 1)
        round_it = torch.where(cosine >= 0, -cosine, cosine.arccos() - math.pi / 2)
        speed = room["speed"][slot][:, None]
        arrival = (distance + head * round_it).clamp(min=0) * self.slots.rate / speed
        amplitude = room["gain"][slot, source, beam][:, None] * height_gain / distance[..., None]
        amplitude = amplitude * torch.exp(-room["air"][slot][:, None] * distance[..., None])
        ratio = math.pi * self.centres * (head / speed)[..., None]
        brightness = (1.05 + 0.95 * torch.cos(cosine.arccos() * 1.2))[..., None]
        amplitude = amplitude * torch.sqrt((1 + (brightness * ratio) ** 2) / (1 + ratio**2))
        response = (slot * shape[1] + source) * shape[2] + ear
        self.add(out, arrival, amplitude * reached[..., None], response, shape)

    def add(
        self,
        out: Float[Tensor, " cell"],
        arrival: Float[Tensor, "beam level"],
        amplitude: Float[Tensor, "beam level band"],
        response: Int[Tensor, " beam"],
        shape: tuple[int, ...],
    ) -> None:
        """Add a windowed sinc for every arrival and band."""
        bands, length = shape[3:]
        whole = arrival.floor()
        place = (arrival - whole) * len(self.taps)
        row = place.long().clamp(max=len(self.taps) - 1)
        taps = self.taps[row, 0] + (place - row)[..., None] * self.taps[row, 1]
        time = whole.long()[..., None] + torch.arange(taps.shape[-1], device=self.device)
        band = torch.arange(bands, device=self.device)
        first = (response[:, None] * bands + band) * length
        cell = first[:, None, :, None] + time[:, :, None]
        value = amplitude[..., None] * taps[:, :, None]
        value = value * (time < length)[:, :, None]
        out.scatter_add_(0, cell.clamp(max=len(out) - 1).flatten(), value.flatten())


ENDS_SINGLE = max(ENDS, 1e-5)
"""`ENDS` for single precision."""


def meet(
    at: Float[Tensor, "beam 2"],
    leg: Float[Tensor, "beam 2"],
    start: Float[Tensor, "beam wall 2"],
    along: Float[Tensor, "beam wall 2"],
) -> tuple[Float[Tensor, "beam wall"], Float[Tensor, "beam wall"]]:
    """Where each segment meets each wall, as fractions of either length; infinite where they are parallel."""
    to = start - at[:, None]
    step = leg[:, None].expand_as(along)
    slope = step[..., 0] * along[..., 1] - step[..., 1] * along[..., 0]
    on_leg = (to[..., 0] * along[..., 1] - to[..., 1] * along[..., 0]) / slope
    on_wall = (to[..., 0] * step[..., 1] - to[..., 1] * step[..., 0]) / slope
    return on_leg, on_wall
