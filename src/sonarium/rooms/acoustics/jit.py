"""Compilation of the loops of room acoustics."""

from sonarium import jit

compiled = jit.compiled("numpy")
"""Without fast-math: no sum is reordered and no multiplication fused with an addition. Otherwise the last bit of
the audio of a seed would depend on which functions were compiled before."""
# `no_type_check` below the decorator keeps jaxtyping's import hook from wrapping compiled functions.
