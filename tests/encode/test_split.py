"""The plan of a split encode."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vs_rafrvsr.encode.split import LONGEST, PIECES_PER_WORKER, chunk_of, plan

FRAMES, CHUNK, WORKERS = st.integers(1, 300_000), st.integers(1, 10_000), st.integers(1, 200)


@given(FRAMES, CHUNK, WORKERS)
def test_pieces_make_up_the_clip_and_begin_on_the_grid(frames: int, chunk: int, workers: int) -> None:
    pieces = plan(frames, chunk, workers)
    assert pieces[0].start == 0
    assert pieces[-1].stop == frames
    assert all(a.stop == b.start for a, b in pairwise(pieces))
    assert all(len(piece) > 0 and piece.start % chunk == 0 for piece in pieces)
    assert len({len(piece) for piece in pieces[:-1]}) <= 1


@given(FRAMES, CHUNK, WORKERS)
def test_pieces_are_neither_too_many_nor_too_long(frames: int, chunk: int, workers: int) -> None:
    pieces = plan(frames, chunk, workers)
    assert len(pieces) <= workers * max(PIECES_PER_WORKER, math.ceil(frames / (workers * LONGEST)))
    assert max(map(len, pieces)) < LONGEST + chunk


def test_every_worker_has_work_where_the_grid_allows() -> None:
    assert len(plan(2 * 60 * 60 * 24, 240, 8)) == 40
    assert len(plan(10_000, 240, 8)) == 14
    assert plan(700, 240, 8) == [range(240), range(240, 480), range(480, 700)]
    assert plan(1, 240, 8) == [range(1)]


@pytest.mark.parametrize(
    ("props", "chunk"), [({}, 1), ({"_RafrvsrChunk": 240}, 240), ({"_RafrvsrChunk": [240, 100]}, 1200)]
)
def test_the_grid_is_read_from_the_frames(props: dict[str, object], chunk: int) -> None:
    assert chunk_of(props) == chunk
