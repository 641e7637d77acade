"""When each request of a LoadGen run came, began and ended: numbers in arrays, on the timed path.

A request's slot is its place in the order of arrival. Nothing here formats text, logs or touches the disk.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Protocol, SupportsInt

import numpy as np

from ..records.requests import Requests


class Lengths(Protocol):
    """A list or an array of integers."""

    def __getitem__(self, index: int, /) -> SupportsInt: ...


class Timeline:
    """The arrays are made for `expected` requests, and grow where more come.

    Times are of the monotonic clock. `response_ids`: LoadGen's, 0 once the answer has left.
    """

    def __init__(self, expected: int) -> None:
        self.count = 0
        self.samples, self.response_ids = array("i"), array("Q")
        self.arrival_s, self.first_token_s, self.end_s = array("d"), array("d"), array("d")
        self.answer_tokens = array("i")
        self._grow(expected)

    def arrived(self, response_ids: Sequence[int], samples: Sequence[int], now: float) -> None:
        """The next requests, all at once."""
        start, end = self.count, self.count + len(samples)
        if end > len(self.samples):
            self._grow(max(end - len(self.samples), len(self.samples) // 4))
        if end - start == 1:  # Server's and SingleStream's
            self.samples[start], self.response_ids[start] = samples[0], response_ids[0]
            self.arrival_s[start] = now
        else:
            self.samples[start:end] = array("i", samples)
            self.response_ids[start:end] = array("Q", response_ids)
            self.arrival_s[start:end] = array("d", [now]) * (end - start)
        self.count = end

    def _grow(self, more: int) -> None:
        for numbers in (self.samples, self.answer_tokens, self.response_ids, self.arrival_s):
            numbers.extend(array(numbers.typecode, bytes(numbers.itemsize * more)))
        for times in (self.first_token_s, self.end_s):
            times.extend(array("d", [math.nan]) * more)

    def answered(self) -> int:
        """Requests with their answer, which is never empty."""
        return int(np.count_nonzero(np.frombuffer(self.answer_tokens, np.int32))) if self.count else 0

    def tokens(self) -> int:
        """Of all answers so far."""
        return int(np.frombuffer(self.answer_tokens, np.int32).sum(dtype=np.int64)) if self.count else 0

    def requests(self, lengths: Lengths) -> Requests:
        """The record of them. `lengths`: of the prompts, by sample."""
        count = self.count
        samples = np.array(self.samples[:count], np.int32)
        start = self.arrival_s[0] if count else 0.0
        arrival, first, end = (
            np.array(times[:count], np.float64) - start
            for times in (self.arrival_s, self.first_token_s, self.end_s)
        )
        prompts = np.array([int(lengths[index]) for index in samples.tolist()], np.int32)
        return Requests(samples, arrival, first, end, prompts, np.array(self.answer_tokens[:count], np.int32))
