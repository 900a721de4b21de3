"""How the loops of room acoustics are compiled."""

from numba import njit

compiled = njit(nogil=True, cache=True, error_model="numpy")
"""Without fast-math: no sum is reordered and no multiplication fused with an addition. Otherwise the last bit of
what a seed renders would depend on which functions were compiled before."""
# `no_type_check` below the decorator keeps jaxtyping's import hook, which wraps functions, from what is compiled.
