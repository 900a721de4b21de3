"""InfoNCE against loops over utterances, times and steps, closed forms, and finite differences."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typechecking import unchecked

from sonarium.features.waveform import sounding
from sonarium.models.contrast import ContrastConfig, Pool, contrast, draw, draw_time, pools

STUDY = ContrastConfig(same_time=True, from_sequence=0, from_batch=0)
SEQUENCE = ContrastConfig(from_sequence=3, from_batch=0)
BATCH = ContrastConfig(from_sequence=0, from_batch=4)
SPEAKER = ContrastConfig(from_sequence=0, from_batch=0, from_speaker=3)
MIXED = ContrastConfig(same_time=True, from_sequence=2, from_speaker=2, from_batch=3, exclude_own=True)
SCHEMES = {"study": STUDY, "sequence": SEQUENCE, "batch": BATCH, "speaker": SPEAKER, "mixed": MIXED}
CLIPS, FRAMES, STEPS, CODE = 4, 9, 3, 5
LENGTHS = torch.tensor([9, 4, 7, 9])
SPEAKERS = torch.tensor([1.0, 0.0, 1.0, 0.0])


def material(seed: int = 0, times: int = FRAMES):
    torch.manual_seed(seed)
    guesses = torch.randn(CLIPS, times, STEPS, CODE, dtype=torch.double)
    return guesses, torch.randn(CLIPS, FRAMES, CODE, dtype=torch.double)


def by_loops(guesses, latents, frames, config, seed, start=0, speakers=None):
    """Loss, chance level and accuracies by definition: the score of each pair against those of its negatives."""
    clips, times, steps, code = guesses.shape
    codes = config.side == "targets"
    generator, device = torch.Generator().manual_seed(seed), torch.device("cpu")
    heard = sounding(FRAMES, frames) if codes else sounding(times, (frames - start).clamp(min=0))
    drawn = [draw(pool, heard, times, generator) for pool in pools(config, clips, device, speakers)]

    def score(guess, latent):
        guess, latent = guess.tolist(), latent.tolist()
        value = sum(g * z for g, z in zip(guess, latent, strict=True))
        if config.score == "cosine":
            value /= math.hypot(*guess) * math.hypot(*latent)
        return (value / code if config.score == "mean" else value) / config.temperature

    losses, counts, won, chance = [0.0] * steps, [0] * steps, [0] * steps, [0.0] * steps
    for i, n, k in product(range(clips), range(times), range(steps)):
        target = start + n + k + 1
        if start + n + (steps if config.times == "common" else k + 1) >= frames[i]:
            continue
        others = [j for j in range(clips) if config.same_time and j != i and target < frames[j]]
        places = [(j, target) if codes else (j, n) for j in others]
        for index, there in drawn:
            found, real = (index[i], there[i]) if index.ndim == 2 else (index[i, n], there[i, n])
            places += [divmod(place, FRAMES if codes else times) for place in found[real].tolist()]
        pair = (i, target) if codes else (i, n)
        rivals = [
            score(guesses[i, n, k], latents[place]) if codes else score(guesses[(*place, k)], latents[i, target])
            for place in places
            if place != pair
        ]
        if rivals:
            own = score(guesses[i, n, k], latents[i, target])
            losses[k] += math.log(sum(math.exp(rival - own) for rival in [own, *rivals]))
            counts[k] += 1
            won[k] += own > max(rivals)
            chance[k] += math.log(1 + len(rivals))
    with_any = [k for k in range(steps) if counts[k]]
    loss, by_chance = (sum(values[k] / counts[k] for k in with_any) / len(with_any) for values in (losses, chance))
    return loss, by_chance, [won[k] / max(1, counts[k]) for k in range(steps)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("side", ["targets", "predictions"])
@pytest.mark.parametrize("drawn", ["each", "together"])
@pytest.mark.parametrize("times", ["all", "common", "one"])
def test_every_scheme_is_its_definition(scheme, side, drawn, times):
    if (scheme, side, times) == ("sequence", "predictions", "one"):
        pytest.skip("refused: one time of one utterance has no other prediction")
    config = replace(SCHEMES[scheme], side=side, drawn=drawn, times=times)
    guesses, latents = material(times=1 if times == "one" else FRAMES)
    start = 2 if times == "one" else 0
    generator = torch.Generator().manual_seed(5)
    found = contrast(guesses, latents, LENGTHS, config, generator, start, SPEAKERS)
    loss, chance, accuracies = by_loops(guesses, latents, LENGTHS, config, 5, start, SPEAKERS)
    assert float(found.loss) == pytest.approx(loss, rel=1e-12)
    assert float(found.chance) == pytest.approx(chance, rel=1e-6)
    assert found.accuracies.tolist() == pytest.approx(accuracies)
    present = found.pair_losses.count_nonzero((0, 1)).clamp(min=1)
    torch.testing.assert_close(found.pair_losses.sum((0, 1)) / present, found.losses)


@pytest.mark.parametrize(("score", "temperature"), [("dot", 2.0), ("mean", 1.0), ("cosine", 0.1)])
@pytest.mark.parametrize("side", ["targets", "predictions"])
def test_every_score_is_its_definition(score, temperature, side):
    config = replace(MIXED, score=score, temperature=temperature, side=side)
    guesses, latents = material(1)
    found = contrast(guesses, latents, LENGTHS, config, torch.Generator().manual_seed(2), 0, SPEAKERS)
    assert float(found.loss) == pytest.approx(by_loops(guesses, latents, LENGTHS, config, 2, 0, SPEAKERS)[0])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("drawn", ["each", "together"])
def test_equal_scores_cost_the_logarithm_of_their_number(scheme, drawn):
    config = replace(SCHEMES[scheme], drawn=drawn)
    guesses, latents = material()
    found = contrast(0 * guesses, latents, LENGTHS, config, torch.Generator(), 0, SPEAKERS)
    assert float(found.loss) == pytest.approx(float(found.chance), rel=1e-6)
    assert not found.accuracies.any()
    if scheme == "study":
        whole = contrast(0 * guesses, latents, torch.full((CLIPS,), FRAMES), config, torch.Generator())
        assert float(whole.loss) == pytest.approx(math.log(CLIPS))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("side", ["targets", "predictions"])
@pytest.mark.parametrize("drawn", ["each", "together"])
def test_padding_is_neither_guess_nor_code_nor_negative(scheme, side, drawn):
    config = replace(SCHEMES[scheme], side=side, drawn=drawn)
    guesses, latents = (values.requires_grad_() for values in material())
    outside = ~sounding(FRAMES, LENGTHS)
    spoilt = [torch.where(outside[..., None], 1e3, latents), torch.where(outside[..., None, None], -1e3, guesses)]
    clean = contrast(guesses, latents, LENGTHS, config, torch.Generator().manual_seed(1), 0, SPEAKERS)
    dirty = contrast(spoilt[1], spoilt[0], LENGTHS, config, torch.Generator().manual_seed(1), 0, SPEAKERS)
    assert torch.equal(clean.loss, dirty.loss)
    of_guesses, of_latents = torch.autograd.grad(clean.loss, [guesses, latents])
    assert of_latents[~outside].any() and not of_latents[outside].any() and not of_guesses[outside].any()
    last = int(LENGTHS[1]) - 1
    assert of_guesses[1, last - 1, 0].any()
    if side == "targets":
        # Its target is beyond the end; it could only be a negative.
        assert not of_guesses[1, last].any()


@pytest.mark.parametrize("scheme", ["study", "batch", "mixed"])
@pytest.mark.parametrize("side", ["targets", "predictions"])
@pytest.mark.parametrize("score", ["dot", "cosine"])
def test_gradients_are_those_of_small_differences(scheme, side, score):
    config = replace(SCHEMES[scheme], side=side, score=score)
    guesses, latents = (values[:3, :4].clone().requires_grad_() for values in material())

    def loss(guesses, latents):
        generator = torch.Generator().manual_seed(3)
        return contrast(guesses, latents, torch.tensor([4, 3, 4]), config, generator, 0, SPEAKERS[:3]).loss

    assert torch.autograd.gradcheck(loss, (guesses, latents), fast_mode=True)


@pytest.mark.parametrize("drawn", ["each", "together"])
def test_sixteen_bits_are_scored_in_thirty_two(drawn):
    config = replace(MIXED, drawn=drawn)
    guesses, latents = (values.bfloat16() for values in material())
    one = contrast(guesses, latents, LENGTHS, config, torch.Generator().manual_seed(1), 0, SPEAKERS).loss
    wide = guesses.float(), latents.float()
    assert torch.equal(one, contrast(*wide, LENGTHS, config, torch.Generator().manual_seed(1), 0, SPEAKERS).loss)


@given(
    lengths=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    count=st.integers(1, 12),
    together=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_draws_stay_within_their_pool(lengths, count, together, seed):
    clips, generator = len(lengths), torch.Generator().manual_seed(seed)
    members = torch.rand(clips, clips, generator=generator) < 0.6
    heard = sounding(6, torch.tensor(lengths))
    index, there = draw(Pool(members, count, together), heard, 3, generator)
    for clip in range(clips):
        allowed = {j * 6 + s for j in range(clips) for s in range(lengths[j]) if members[clip, j]}
        rows = [(index[clip], there[clip])] if together else list(zip(index[clip], there[clip], strict=True))
        for places, real in rows:
            kept = places[real].tolist()
            assert set(kept) <= allowed
            if together:
                assert len(set(kept)) == len(kept) == min(count, len(allowed))
            else:
                assert len(kept) == (count if allowed else 0)


@pytest.mark.parametrize("together", [True, False])
def test_draws_are_even(together):
    generator, heard = torch.Generator().manual_seed(0), sounding(5, torch.tensor([5, 3]))
    pool = Pool(torch.tensor([[True, True], [False, True]]), 4, together)
    drawn = [draw(pool, heard, 3, generator)[0] for _ in range(1500)]
    for clip, places in ((0, [0, 1, 2, 3, 4, 5, 6, 7]), (1, [5, 6, 7])):
        found = torch.cat([index[clip].flatten()[:3] for index in drawn])
        counts = torch.stack([(found == place).sum() for place in places]).double()
        assert counts.sum() == len(found)
        expected = len(found) / len(places)
        # Chi-square with at most 7 degrees of freedom exceeds 40 once in a million.
        assert float(((counts - expected) ** 2 / expected).sum()) < 40


def test_own_frames_can_be_left_out():
    generator = torch.Generator().manual_seed(0)
    config = replace(BATCH, exclude_own=True, from_batch=50)
    (pool,) = pools(config, CLIPS, torch.device("cpu"), None)
    index, there = draw(pool, sounding(FRAMES, LENGTHS), FRAMES, generator)
    for clip in range(CLIPS):
        assert sorted(index[clip][there[clip]].tolist()) == [
            j * FRAMES + s for j in range(CLIPS) for s in range(int(LENGTHS[j])) if j != clip
        ]


def test_an_utterance_without_a_rival_is_no_contest():
    guesses, latents = material()
    config = replace(SPEAKER, exclude_own=True)
    alone = torch.tensor([1.0, 2.0, 3.0, 3.0])
    found = contrast(guesses, latents, LENGTHS, config, torch.Generator(), 0, alone)
    assert not found.pair_losses[:2].any() and found.pair_losses[2:, 0].any()
    nobody = contrast(guesses, latents, LENGTHS, config, torch.Generator(), 0, torch.arange(4.0))
    assert float(nobody.loss) == 0


def test_the_one_time_leaves_room_for_all_steps_of_two_utterances():
    config, generator = replace(STUDY, times="one"), torch.Generator().manual_seed(0)
    drawn = {draw_time(config, torch.tensor([30, 9, 12]), 4, generator) for _ in range(300)}
    assert drawn == set(range(8))
    assert draw_time(STUDY, torch.tensor([30, 9, 12]), 4, generator) is None
    # The study: t from 0 to 115 of 128 frames.
    times = {draw_time(config, torch.full((8,), 128), 12, generator) or 0 for _ in range(2000)}
    assert (min(times), max(times)) == (0, 115)


def test_the_speaker_must_be_known():
    with pytest.raises(ValueError, match="need `speaker`"):
        contrast(*material(), LENGTHS, SPEAKER, torch.Generator())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"from_sequence": 0, "from_batch": 0}, "no negatives: give same_time"),
        ({"whole_batch": True, "exclude_own": True}, "use side 'targets' and no exclude_own"),
        ({"whole_batch": True, "side": "predictions"}, "use side 'targets' and no exclude_own"),
        ({"from_batch": -1}, "from_batch=-1: give a whole number from 0"),
        ({"temperature": 0.0}, "temperature=0.0: give a positive number"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"drawn": "some"}, "drawn='some': give each or together"),
        ({"times": "two"}, "times='two'"),
        ({"side": "left"}, "side='left'"),
        ({"score": "l2"}, "score='l2'"),
        (
            {"from_batch": 0, "times": "one", "side": "predictions"},
            "one time of one utterance has no other prediction",
        ),
    ],
)
def test_impossible_contests_are_refused(changed, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        replace(ContrastConfig(), **changed)
