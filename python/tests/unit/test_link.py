"""Frames survive any cutting of the byte stream."""

from __future__ import annotations

from array import array

import pytest

from mlperf_llama.engine import frames as engine_frames
from mlperf_llama.loadgen import link

IDS = array("Q", [2**63 + 5, 7, 0])
QUERIES = link.queries(list(IDS), [13367, 0, 2**40])
FIRST = engine_frames.first_tokens(IDS, array("i", [128000, 1, -1]))
COMPLETE = engine_frames.completions(IDS, array("i", [2, 0, 3]), array("i", [1, 2, 3, 4, 128009]))
ERROR = link.control(link.ERROR, "größer")
STREAM = QUERIES + FIRST + COMPLETE + ERROR + link.control(link.DONE)


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 64, len(STREAM)])
def test_frames_come_back_however_the_stream_is_cut(size: int) -> None:
    decoder = link.Decoder()
    frames = [frame for at in range(0, len(STREAM), size) for frame in decoder.feed(STREAM[at : at + size])]
    assert [f.kind for f in frames] == [
        link.QUERIES,
        link.FIRST_TOKENS,
        link.COMPLETIONS,
        link.ERROR,
        link.DONE,
    ]
    assert link.read_queries(frames[0]) == (IDS, array("q", [13367, 0, 2**40]))
    assert link.read_first_tokens(frames[1]) == (IDS, array("i", [128000, 1, -1]))
    ids, lengths, tokens = link.read_completions(frames[2])
    assert (ids, lengths, tokens) == (IDS, array("i", [2, 0, 3]), array("i", [1, 2, 3, 4, 128009]))
    assert frames[3].payload.decode() == "größer"


def test_a_frame_that_is_not_complete_waits() -> None:
    decoder = link.Decoder()
    assert list(decoder.feed(QUERIES[:-1])) == []
    assert len(list(decoder.feed(QUERIES[-1:] + FIRST[:20]))) == 1
    assert len(list(decoder.feed(memoryview(FIRST)[20:]))) == 1
