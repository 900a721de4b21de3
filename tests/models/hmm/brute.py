"""Brute-force oracles for hidden Markov models: sums over all state paths, with explicit durations over all
segmentations."""

from itertools import pairwise, product

import numpy as np


def paths(chain, length):
    """Probabilities of each state path: one or, with explicit durations, one for each segmentation."""
    start, moves = chain.start.numpy(), chain.transitions.numpy()
    found = {}
    if chain.durations is None:
        for path in product(range(len(start)), repeat=length):
            p = start[path[0]] * np.prod([moves[a, b] for a, b in pairwise(path)])
            found[path] = [p]
        return found
    durations = chain.durations.numpy()

    def grow(path, p):
        if len(path) == length:
            found.setdefault(path, []).append(p)
            return
        for state in range(len(start)):
            enter = moves[path[-1], state] if path else start[state]
            for extra, lasting in enumerate(durations[state]):
                left = length - len(path)
                # A segment that continues beyond the end is truncated.
                grow(path + (state,) * min(extra + 1, left), p * enter * lasting)

    grow((), 1.0)
    return found


def expectations(chain, density):
    """log p, the best path and its log p, posteriors, and expected transitions between frames, of one sequence."""
    length, states = density.shape
    weights, alone = {}, {}
    for path, each in paths(chain, length).items():
        emitted = np.exp(sum(density[time, state] for time, state in enumerate(path)))
        weights[path], alone[path] = sum(each) * emitted, max(each) * emitted
    total = sum(weights.values())
    posterior, moves = np.zeros((length, states)), np.zeros((states, states))
    for path, weight in weights.items():
        posterior[np.arange(length), path] += weight / total
        for a, b in pairwise(path):
            moves[a, b] += weight / total
    best = max(alone, key=lambda path: alone[path])
    return np.log(total), best, np.log(alone[best]), posterior, moves
