"""The plan of a split encode."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vs_rafrvsr.encode.split import ON_CPU, ON_GPU, PIECES_PER_WORKER, Lengths, chunk_of, lengths_for, plan

CASES = st.integers(1, 300_000), st.integers(1, 10_000), st.integers(1, 200), st.sampled_from([ON_CPU, ON_GPU])


@given(*CASES)
def test_pieces_make_up_the_clip_and_begin_on_the_grid(frames: int, chunk: int, workers: int, lengths: Lengths) -> None:
    pieces = plan(frames, chunk, workers, lengths)
    assert pieces[0].start == 0
    assert pieces[-1].stop == frames
    assert all(a.stop == b.start for a, b in pairwise(pieces))
    assert all(len(piece) > 0 and piece.start % chunk == 0 for piece in pieces)
    assert len({len(piece) for piece in pieces[:-1]}) <= 1


@given(*CASES)
def test_pieces_are_neither_too_many_nor_too_long(frames: int, chunk: int, workers: int, lengths: Lengths) -> None:
    pieces = plan(frames, chunk, workers, lengths)
    assert len(pieces) <= workers * max(PIECES_PER_WORKER, math.ceil(frames / (workers * lengths.longest)))
    assert max(map(len, pieces)) < lengths.longest + chunk
    assert len(pieces) <= workers or len(pieces[0]) >= lengths.shortest


def test_every_worker_has_work_where_the_grid_allows() -> None:
    assert len(plan(2 * 60 * 60 * 24, 240, 8, ON_CPU)) == 40
    assert len(plan(10_000, 240, 8, ON_CPU)) == 14
    for lengths in (ON_CPU, ON_GPU):
        assert plan(700, 240, 8, lengths) == [range(240), range(240, 480), range(480, 700)]
        assert plan(1, 240, 8, lengths) == [range(1)]


def test_a_gpu_gets_long_pieces_because_it_is_done_with_short_ones_before_it_has_started() -> None:
    assert len(plan(2 * 60 * 60 * 24, 240, 8, ON_GPU)) == 16
    assert len(plan(10_000, 240, 2, ON_GPU)) == 2
    assert len(plan(20_000, 240, 2, ON_GPU)) == 4
    assert lengths_for({"_RafrvsrDevice": "NVIDIA H200"}) == ON_GPU
    assert lengths_for({"_RafrvsrDevice": ["CPU, AVX2", "NVIDIA H200"]}) == ON_GPU
    assert lengths_for({"_RafrvsrDevice": "CPU, AVX2"}) == lengths_for({}) == ON_CPU


@pytest.mark.parametrize(
    ("props", "chunk"), [({}, 1), ({"_RafrvsrChunk": 240}, 240), ({"_RafrvsrChunk": [240, 100]}, 1200)]
)
def test_the_grid_is_read_from_the_frames(props: dict[str, object], chunk: int) -> None:
    assert chunk_of(props) == chunk
