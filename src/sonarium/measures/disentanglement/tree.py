"""Compiled decision tree; the clips are sorted by each code only once.

Each clip adds `amount` to one `slot`: a number adds itself to the only slot, a class adds 1 to its
slot. A node's impurity is then Σ amount² − Σ_slot sum²/mass, and a split decreases it by
Σ_slot [left²/left_mass + right²/right_mass − sum²/mass]. A node is the same slice of every code's
sorted list, and a split partitions each list stably, so that both children are sorted too.
"""

from typing import no_type_check

import numpy as np

from sonarium.jit import compiled

SMALLEST_GAIN = 1e-10
"""Fraction of the root's impurity below which the gain of a split is only rounding error."""


@compiled()
@no_type_check
def grow_tree(rank, sorted_clips, slot, amount, weight, slots, depth, leaf):
    """Fit a tree: return it as arrays, and the impurity decrease by each code.

    rank (code, clip) is the rank of each clip among the distinct values of a code; sorted_clips (code, clip)
    the clips in that order; weight how often a clip was drawn. Arrays over nodes: the code to split on, the
    greatest rank that goes left and the least that goes right, the first child (0 in a leaf; the second
    child follows), the value.
    """
    codes, drawn = len(rank), np.count_nonzero(weight)
    order, pull = _only_drawn(sorted_clips, weight, drawn), weight * amount
    most = 2 * (drawn // leaf) + 3
    feature, cut, child = np.zeros(most, np.int64), np.zeros((most, 2), np.int64), np.zeros(most, np.int64)
    start, stop, level = np.zeros(most, np.int64), np.zeros(most, np.int64), np.zeros(most, np.int64)
    value, importance, gain = np.zeros((most, slots)), np.zeros(codes), np.zeros(codes)
    place, left = np.zeros((codes, 2), np.int64), np.zeros(slots)
    goes_left, spare = np.zeros(len(weight), np.uint8), np.zeros(drawn, np.uint32)
    stop[0], nodes, node, smallest = drawn, 1, 0, 0.0
    while node < nodes:
        first, last, total = start[node], stop[node], value[node]
        mass, impurity, squares = _weigh(order[0, first:last], slot, amount, pull, weight, total)
        smallest = SMALLEST_GAIN * impurity if node == 0 else smallest
        if level[node] < depth and last - first >= 2 * leaf and impurity > smallest:
            for code in range(codes):
                gain[code] = _best_cut(
                    order[code, first:last], rank[code], slot, pull, weight, leaf, total, mass,
                    squares, left, place[code],
                )  # fmt: skip
            code = gain.argmax()
            if gain[code] > smallest:
                _share(gain[code], gain, importance)
                feature[node], cut[node], child[node] = code, place[code], nodes
                middle = _part(order, first, last, rank[code], place[code, 0], goes_left, spare)
                start[nodes], stop[nodes], start[nodes + 1], stop[nodes + 1] = first, middle, middle, last
                level[nodes] = level[nodes + 1] = level[node] + 1
                nodes += 2
        for one in range(slots):
            total[one] /= mass
        node += 1
    return feature[:nodes], cut[:nodes], child[:nodes], value[:nodes], importance


@compiled()
@no_type_check
def _only_drawn(sorted_clips, weight, drawn):
    order = np.zeros((len(sorted_clips), drawn), np.uint32)
    for code in range(len(sorted_clips)):
        count = 0
        for clip in sorted_clips[code]:
            if weight[clip] > 0:
                order[code, count] = clip
                count += 1
    return order


@compiled()
@no_type_check
def _weigh(clips, slot, amount, pull, weight, total):
    """Add up the clips' amounts by slot in `total`; return mass, impurity and Σ_slot total²."""
    mass, square, squares = 0.0, 0.0, 0.0
    for clip in clips:
        total[slot[clip]] += pull[clip]
        square += pull[clip] * amount[clip]
        mass += weight[clip]
    for one in total:
        squares += one * one
    return mass, square - squares / mass, squares


@compiled()
@no_type_check
def _best_cut(clips, rank, slot, pull, weight, leaf, total, mass, squares, left, place):
    """Return the maximum gain of a cut between two values of one code; write their ranks to `place`."""
    for one in range(len(left)):
        left[one] = 0.0
    light, left_squares, right_squares = 0.0, 0.0, squares
    best = 0.0
    for below in range(1, len(clips) - leaf + 1):
        clip = clips[below - 1]
        moved, here = pull[clip], slot[clip]
        left_squares += moved * (2 * left[here] + moved)
        right_squares -= moved * (2 * (total[here] - left[here]) - moved)
        left[here] += moved
        light += weight[clip]
        if below >= leaf and below < len(clips) and rank[clips[below]] > rank[clip]:
            dark = mass - light
            gain = (left_squares * dark + right_squares * light) / (light * dark)
            if gain > best:
                best, place[0], place[1] = gain, rank[clip], rank[clips[below]]
    return best - squares / mass


@compiled()
@no_type_check
def _share(best, gain, importance):
    """Divide the gain of a split among all codes that would split the node equally well."""
    equal = 0
    for one in gain:
        equal += one >= best * (1 - 1e-9)
    for code in range(len(gain)):
        if gain[code] >= best * (1 - 1e-9):
            importance[code] += best / equal


@compiled()
@no_type_check
def _part(order, first, last, rank, cut, goes_left, spare):
    """Partition every code's slice into clips that go left, then those that go right; return the boundary."""
    for clip in order[0, first:last]:
        goes_left[clip] = rank[clip] <= cut
    front = first
    for code in range(len(order)):
        front, behind = first, 0
        for position in range(first, last):
            # written to both sides, of which one is kept: a branch here would be mispredicted half the
            # time; `front` never runs ahead of `position`
            clip = order[code, position]
            order[code, front] = clip
            spare[behind] = clip
            front += goes_left[clip]
            behind += 1 - goes_left[clip]
        for position in range(behind):
            order[code, front + position] = spare[position]
    return front


@compiled()
@no_type_check
def add_prediction(codes, feature, threshold, child, value, sums):
    """Add to `sums` (clip, slot) the value of the leaf that each clip falls into."""
    for clip in range(len(codes)):
        node = 0
        while child[node] > 0:
            node = child[node] + (codes[clip, feature[node]] > threshold[node])
        for one in range(value.shape[1]):
            sums[clip, one] += value[node, one]
