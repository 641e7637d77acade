"""Numbers whose bits are the same on every CPU and GPU: random draws, Hadamard rows, exact sums.

Sums are exact: `exact` rounds their terms to 41 bits, so that a sum of up to 4,096 of them, with signs, fits
the 53 bits of float64 in any order. All else is one float64 operation for each element (no division by a
number, which CUDA replaces by a product), and random numbers come from the whole numbers of a fixed
generator.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

SEED = 20261127
BITS = 40
# What the random draws are for; each layer has its own.
SIGNS, ROWS, HEADS, ANGLES, UNUSED, TURN, NEURONS, SCALES, SHARES, VOCABULARY = range(10)
Array = np.ndarray[Any, np.dtype[Any]]


def draw(count: int, *purpose: int) -> Array:
    """`count` random 64-bit numbers; NumPy keeps the streams of its bit generators as they are."""
    return np.random.PCG64(np.random.SeedSequence([SEED, *purpose])).random_raw(count)


def fractions(count: int, *purpose: int) -> Array:
    """Random numbers in [0, 1), whole multiples of 2^-53."""
    return (draw(count, *purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def order(count: int, *purpose: int) -> Array:
    """A random permutation."""
    return np.argsort(draw(count, *purpose), kind="stable")


def signs(count: int, *purpose: int) -> Array:
    return 1.0 - 2.0 * (draw(count, *purpose) >> np.uint64(63)).astype(np.float64)


def hadamard(rows: int, size: int, *purpose: int) -> torch.Tensor:
    """[rows, size] of +-1, rows orthogonal: random rows of Sylvester's matrix, random signs a column."""
    if size & (size - 1) or rows > size:
        raise ValueError(f"expected a power of two of at least {rows}, found {size}")
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return torch.from_numpy(matrix[order(size, ROWS, *purpose)[:rows]] * signs(size, SIGNS, *purpose))


def exponent(w: torch.Tensor) -> int:
    """The least e with every |w| < 2^e."""
    return math.frexp(float(w.abs().max()))[1]


def exact(w: torch.Tensor) -> torch.Tensor:
    """Rounded to whole multiples of 2^-BITS of the power of two above the largest."""
    shift = BITS - exponent(w)
    return (w * 2.0**shift).round() * 2.0**-shift


def shares(owner: Array, total: float, *purpose: int) -> Array:
    """Random shares of the copies, those of one owner with the sum `total` (1 or 0)."""
    shares = 0.5 + fractions(len(owner), *purpose)
    sums, counts = np.bincount(owner, shares), np.bincount(owner)
    return shares / sums[owner] if total else shares / sums[owner] - 1.0 / counts[owner]
