"""Numbers of the stand-in: noise that is the same on every machine, and FP8 as the engine reads it.

Only raw bits of PCG64 (stable by NumPy's policy for bit generators), integer sums and single
elementwise float operations are used: no BLAS, no transcendental function, no pairwise sum. So the
same seed gives the same bytes everywhere.
"""

from __future__ import annotations

import math
from typing import Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
BF16: Final = np.dtype(ml_dtypes.bfloat16)
FP8: Final = np.dtype(ml_dtypes.float8_e4m3fn)
FP8_MAX: Final = 448.0
"""The largest finite E4M3 value (OCP 8-bit floating point specification, 1.0)."""


class Noise:
    """A stream of near-normal numbers: sums of four uniform 16-bit integers, scaled."""

    _UNIT_DEVIATION = 65_536 / math.sqrt(3)
    """The deviation of a sum of four uniform integers below 2**16."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def __call__(self, *shape: int, deviation: float) -> Array:
        """Return float32 noise of this shape with mean 0 and this standard deviation."""
        raw = np.asarray(self._bits.random_raw(math.prod(shape)), dtype=np.uint64)
        lanes = raw.view(np.uint16).reshape(-1, 4).astype(np.int32)
        total = lanes[:, 0] + lanes[:, 1] + lanes[:, 2] + lanes[:, 3] - 2 * 65_535
        scaled: Array = total.astype(np.float32) * np.float32(deviation / self._UNIT_DEVIATION)
        return scaled.reshape(shape)


def unit(vector: Array) -> Array:
    """Return the vector at length 1; the sum of squares is exact, so its order does not matter."""
    length = math.sqrt(math.fsum(float(x) ** 2 for x in vector))
    scaled: Array = vector / np.float32(length)
    return scaled


def without(vector: Array, direction: Array) -> Array:
    """Return the vector less its part along the unit vector `direction`; exact sum, as in `unit`."""
    part = math.fsum(float(a) * float(b) for a, b in zip(vector, direction, strict=True))
    rest: Array = vector - np.float32(part) * direction
    return rest


def to_fp8(weights: Array) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float32]]:
    """Quantize per tensor: E4M3 values and the 0-d float32 scale that turns them back."""
    scale = np.float32(max(float(np.abs(weights).max()) / FP8_MAX, 1e-12))
    quantized = np.clip(weights / scale, -FP8_MAX, FP8_MAX).astype(FP8)
    return quantized, np.asarray(scale, dtype=np.float32)
