"""Fit and score what `docs/songbird.md` reports of hidden Markov models as grammars of song.

    .venv/bin/python scripts/songbird_grammar.py                # what is missing, then the page
    .venv/bin/python scripts/songbird_grammar.py --parts birds  # this part
    .venv/bin/python scripts/songbird_grammar.py --write        # only the page, from what is there

Birds: sequences of two Bengalese finches from ../shared/data. The first 64 % of the songs are fitted to, the next
16 % choose the number of states and test merges, the last 20 % are scored. Orders: ten planted birds. Everything
runs on one thread; each score is kept in docs/results/songbird-grammar.json as soon as it is there.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tones_results import ROOT, insert, table

from sonarium.bench.timing import hardware
from sonarium.measures.sequence.entropy import Rate, markov_entropy_rate, stationary
from sonarium.measures.sequence.ngrams import NGrams, markov_order
from sonarium.measures.sequence.prediction import bits_per_symbol
from sonarium.measures.statistics import interval
from sonarium.models.gru import Recurrent
from sonarium.models.hmm import HMM, merge_states
from sonarium.models.hmm.selection import paired_p_value

RESULTS = ROOT / "docs" / "results" / "songbird-grammar.json"
DATA = ROOT.parent / "shared" / "data" / "bengalese_sequences"
BIRDS = ("Bird4", "Bird7")
SEEDS = (100, 101, 102)
NEURAL_SEEDS = SEEDS[:1]
"""Seeds of the recurrent network, which takes minutes per seed."""
CANDIDATES = (15, 25, 40, 60, 80)
TRAIN, CHOOSE = 0.64, 0.8
SETTINGS: dict[str, Any] = dict(emission_prior=1.001, transition_prior=1.02, max_iter=80, tol=1.0)
PLANTED = [
    (order, syllables) for order, syllables in zip((1, 1, 1, 2, 2, 2, 2, 3, 3, 3), (5, 6, 8) * 4, strict=False)
]
UNITS, EPOCHS = 64, 40
"""Units and epochs of the recurrent network."""
Songs = list[np.ndarray]


def read(bird: str) -> tuple[Songs, int]:
    """The songs in order, with labels numbered from 0, and the number of labels."""
    with (DATA / f"{bird}_sequences.csv").open() as file:
        songs = [np.array(row["labels"].split(), int) for row in csv.DictReader(file)]
    labels = np.unique(np.concatenate(songs))
    return [np.searchsorted(labels, song) for song in songs], len(labels)


def joined(songs: Songs) -> tuple[np.ndarray, list[int]]:
    return np.concatenate(songs)[:, None], [len(song) for song in songs]


def fitted(songs: Songs, symbols: int, states: int, seed: int, start_from: HMM | None = None) -> HMM:
    frames, lengths = joined(songs)
    model = HMM(states, "categorical", symbols=symbols, random_state=seed, **SETTINGS)
    return model.fit(frames, lengths=lengths, start_from=start_from)


def bits(model: HMM, songs: Songs, skip: int = 0) -> Rate:
    frames, lengths = joined(songs)
    return bits_per_symbol(model.score_samples(frames, lengths), lengths, skip)


def by_song(model: HMM, songs: Songs) -> np.ndarray:
    frames, lengths = joined(songs)
    ends = np.cumsum(lengths)[:-1]
    return np.array([-part.sum() / np.log(2) for part in np.split(model.score_samples(frames, lengths), ends)])


def grammar_of_bird(bird: str, seed: int) -> dict[str, float]:
    """Bits per syllable on the test songs: states chosen by validation, merged to half, and to the fewest that are
    not rejected."""
    songs, symbols = read(bird)
    one, two = round(TRAIN * len(songs)), round(CHOOSE * len(songs))
    train, choose, known, test = songs[:one], songs[one:two], songs[:two], songs[two:]
    models = [fitted(train, symbols, states, seed) for states in CANDIDATES]
    best = min(models, key=lambda model: bits(model, choose).mean)
    whole = fitted(known, symbols, best.states, seed, start_from=best)
    found = {"states": best.states, "bits": bits(whole, test).mean, "bits from third": bits(whole, test, 2).mean}
    data = (*joined(train), *joined(choose))
    fewest, _ = merge_states(best, *data, at_once=max(1, best.states // 20))
    half = fewest
    if fewest.states > best.states // 2:
        half, _ = merge_states(fewest, *data, level=0.0, least=best.states // 2, at_once=max(1, best.states // 20))
    for name, smaller in (("half", half), ("merged", fewest)):
        again = fitted(known, symbols, smaller.states, seed, start_from=smaller)
        losses = by_song(again, test) - by_song(whole, test)
        found |= {
            f"{name} states": smaller.states,
            f"{name} bits": bits(again, test).mean,
            f"{name} bits from third": bits(again, test, 2).mean,
            f"{name} p": paired_p_value(losses),
        }
    return found


def plain(bird: str) -> dict[str, float]:
    """n-grams with Witten-Bell smoothing; the order is chosen by validation, like the number of states."""
    songs, symbols = read(bird)
    one, two = round(TRAIN * len(songs)), round(CHOOSE * len(songs))
    orders = [ngram_bits(order, symbols, songs[:one], songs[one:two]) for order in range(1, 8)]
    order = 1 + int(np.argmin(orders))
    return {
        "order": order,
        "bits": ngram_bits(order, symbols, songs[:two], songs[two:]),
        "bits from third": ngram_bits(order, symbols, songs[:two], songs[two:], 2),
        "bigram bits": ngram_bits(1, symbols, songs[:two], songs[two:]),
        "bigram bits from third": ngram_bits(1, symbols, songs[:two], songs[two:], 2),
    }


def ngram_bits(order: int, symbols: int, train: Songs, test: Songs, skip: int = 0) -> float:
    logs = NGrams(order, symbols).fit(train).log_probabilities(test)
    return bits_per_symbol(np.concatenate(logs), [len(one) for one in logs], skip).mean


def recurrent(bird: str, seed: int) -> dict[str, float]:
    """A GRU over syllables, the neural baseline; the number of epochs is chosen by validation."""
    songs, symbols = read(bird)
    one, two = round(TRAIN * len(songs)), round(CHOOSE * len(songs))
    _, curve = trained(songs[:one], symbols, seed, EPOCHS, songs[one:two])
    epochs = 1 + int(np.argmin(curve))
    network, _ = trained(songs[:two], symbols, seed, epochs)
    logs, lengths = predicted(network, songs[two:], symbols), [len(song) for song in songs[two:]]
    found = {"epochs": epochs, "bits": bits_per_symbol(logs, lengths).mean}
    return found | {"bits from third": bits_per_symbol(logs, lengths, 2).mean}


def trained(
    songs: Songs, symbols: int, seed: int, epochs: int, choose: Songs | None = None
) -> tuple[Recurrent, list[float]]:
    """The network, and bits per syllable on the validation songs after each epoch."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Recurrent(symbols, symbols, UNITS, 1)
    rng, optimiser, curve = np.random.default_rng(seed), torch.optim.Adam(network.parameters(), 3e-3), []
    for _ in range(epochs):
        for part in np.array_split(rng.permutation(len(songs)), len(songs) // 16):
            hot, own = padded([songs[number] for number in part], symbols)
            logs = network(hot).log_softmax(2)
            loss = -(logs * hot).sum() / own.sum()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
        if choose:
            logs = predicted(network, choose, symbols)
            curve.append(bits_per_symbol(logs, [len(song) for song in choose]).mean)
    return network, curve


def padded(songs: Songs, symbols: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One-hot songs, zero-padded, and the mask of their syllables."""
    length = max(map(len, songs))
    hot = torch.zeros(len(songs), length, symbols)
    for row, song in zip(hot, songs, strict=True):
        row[torch.arange(len(song)), torch.from_numpy(song)] = 1
    return hot, hot.sum(2) > 0


@torch.no_grad()
def predicted(network: Recurrent, songs: Songs, symbols: int) -> np.ndarray:
    """log p of each syllable given those before it."""
    hot, own = padded(songs, symbols)
    return (network(hot).log_softmax(2) * hot).sum(2)[own].double().numpy()


def planted_bird(number: int, order: int, syllables: int) -> dict[str, float]:
    """A grammar of this order, whose states are the last syllables, with one state in five doubled: the chosen
    order, and the excess of a hidden Markov model over the planted entropy rate."""
    rng = np.random.default_rng(1000 + number)
    states, moves, rule = contexts(rng, order, syllables)
    often = stationary(moves) > 1e-6
    distinct = len({rule[key] for key, seen in zip(states, often, strict=True) if seen})
    twice = rng.choice(len(states), max(1, len(states) // 5), replace=False)
    labels, moves = doubled(np.array([state[-1] for state in states]), moves, twice, rng)
    emissions = np.eye(syllables)[labels]
    start = np.full(len(labels), 1 / len(labels))
    bird = HMM.from_parameters(start, moves, probabilities=emissions)
    drawn = bird.sample(60, number, sequences=400)[0].astype(int).reshape(400, 60)
    songs = list(drawn)
    train, choose, test = songs[:200], songs[200:300], songs[300:]
    chosen, _ = markov_order(train + choose, test, syllables)
    models = [
        fitted(train, syllables, count, number)
        for count in (syllables, 2 * syllables, 4 * syllables, 8 * syllables)
    ]
    best = min(models, key=lambda model: bits(model, choose).mean)
    # The first syllables are less predictable than the entropy rate.
    missed = bits(best, test, 5).mean - bits(bird, test, 5).mean
    return {
        "order": order, "chosen": chosen, "syllables": syllables, "histories": distinct,
        "states": best.states, "rate": markov_entropy_rate(moves), "missed": missed,
    }  # fmt: skip


def contexts(
    rng: np.random.Generator, order: int, syllables: int
) -> tuple[list[tuple[int, ...]], np.ndarray, dict[tuple[int, ...], tuple[int, ...]]]:
    """A random grammar: its states, transition matrix, and the history on which each state's successors depend.
    States are the last `order` syllables, each followed by two or three syllables. After two of the syllables,
    successors depend on the full history, after the others on the syllable alone."""
    everyone = [tuple(int(one) for one in key) for key in np.ndindex(*[syllables] * order)]
    remembering = rng.choice(syllables, 2, replace=False).tolist()
    rule = {key: key if key[-1] in remembering else key[-1:] for key in everyone}
    choices = {}
    for key in sorted(set(rule.values())):
        after = rng.choice(syllables, int(rng.integers(2, 4)), replace=False)
        choices[key] = dict(zip(after.tolist(), rng.dirichlet(np.ones(len(after))), strict=True))
    follow = {key: choices[rule[key]] for key in everyone}
    place = {key: at for at, key in enumerate(everyone)}
    moves = np.zeros((len(everyone), len(everyone)))
    for key, after in follow.items():
        for syllable, p in after.items():
            moves[place[key], place[(*key[1:], syllable)]] += p
    return everyone, moves, rule


def doubled(
    labels: np.ndarray, moves: np.ndarray, states: Sequence[int] | np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Split each of these states into two that are indistinguishable."""
    for state in states:
        share = rng.uniform(0.3, 0.7)
        moves = np.vstack([moves, moves[state]])
        moves = np.hstack([moves, moves[:, [state]] * share])
        moves[:, state] *= 1 - share
        labels = np.append(labels, labels[state])
    return labels, moves


def jobs() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for bird in BIRDS:
        found[f"birds/{bird}/ngrams"] = lambda bird=bird: plain(bird)
        for seed in NEURAL_SEEDS:
            found[f"neural/{bird}/{seed}"] = lambda bird=bird, seed=seed: recurrent(bird, seed)
        for seed in SEEDS:
            found[f"birds/{bird}/{seed}"] = lambda bird=bird, seed=seed: grammar_of_bird(bird, seed)
    for number, (order, syllables) in enumerate(PLANTED):
        found[f"orders/{number}"] = lambda n=number, o=order, s=syllables: planted_bird(n, o, s)
    return found


def write(kept: dict[str, Any]) -> None:
    """Write the tables of the page."""
    rows = []
    for bird in BIRDS:
        plainly = kept[f"birds/{bird}/ngrams"]
        each = [kept[f"birds/{bird}/{seed}"] for seed in SEEDS]
        count = {
            name: ", ".join(str(one[name]) for one in each) for name in ("states", "half states", "merged states")
        }
        rows.append(
            [bird, "bigram", "", f"{plainly['bigram bits']:.3f}", f"{plainly['bigram bits from third']:.3f}", ""]
        )
        name = f"{plainly['order'] + 1}-gram, Witten-Bell"
        rows.append([bird, name, "", f"{plainly['bits']:.3f}", f"{plainly['bits from third']:.3f}", ""])
        neural = [kept[f"neural/{bird}/{seed}"] for seed in NEURAL_SEEDS]
        scores = [str(interval([one[key] for one in neural])) for key in ("bits", "bits from third")]
        rows.append([bird, f"GRU of {UNITS} units", "", *scores, ""])
        for prefix, name in (
            ("", "HMM, states by validation"),
            ("half ", "merged to half"),
            ("merged ", "merged, p ≥ .05"),
        ):
            scores = [interval([one[f"{prefix}{key}"] for one in each]) for key in ("bits", "bits from third")]
            p = ", ".join(f"{one[f'{prefix}p']:.2g}" for one in each) if prefix else ""
            rows.append([bird, name, count[f"{prefix}states"], *map(str, scores), p])
    birds = table(["bird", "model", "states", "bits a syllable", "from the third on", "p of the loss"], rows)
    planted = [kept[f"orders/{number}"] for number in range(len(PLANTED))]
    lines = [
        [
            *(str(one[key]) for key in ("order", "chosen", "syllables", "histories", "states")),
            *(f"{one[key]:.3f}" for key in ("rate", "missed")),
        ]
        for one in planted
    ]  # fmt: skip
    header = [
        "order",
        "chosen",
        "syllables",
        "histories",
        "states by validation",
        "planted bits",
        "bits missed",
    ]
    insert("grammar-birds", birds, "songbird.md")
    insert("grammar-orders", table(header, lines), "songbird.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(dict.fromkeys(name.split("/")[0] for name in jobs()))
    parser.add_argument("--parts", nargs="+", default=names, choices=names)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = (
        json.loads(RESULTS.read_text(encoding="utf-8"))
        if RESULTS.exists()
        else {"hardware": hardware(), "seeds": SEEDS}
    )
    for name, job in jobs().items():
        if not arguments.write and name.split("/")[0] in arguments.parts and name not in kept:
            kept[name] = job()
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            print(name, kept[name], flush=True)
    if all(name in kept for name in jobs()):
        write(kept)


if __name__ == "__main__":
    main()
