"""Frame n's steps are a function of n, the cuts and the grid: checked against a slow reading of the rules."""

from collections.abc import Iterator, Set
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vs_rafrvsr.schedule import GROUP, Grid, Step


def plan(grid: Grid, n: int, cuts: Set[int]) -> Iterator[Step]:
    """Every step that makes output n, in order, for known cuts: what a seek to n costs."""
    for frame in range(grid.start(grid.chunk_of(n)), n + 1):
        yield from grid.steps(grid.chunk_of(n), frame, cuts, grid.frames) or ()


@st.composite
def grids(draw: st.DrawFn) -> tuple[Grid, frozenset[int]]:
    frames = draw(st.integers(1, 120))
    chunk = draw(st.integers(1, 130))
    grid = Grid(
        frames=frames,
        chunk=chunk,
        warmup=draw(st.integers(0, chunk - 1)),
        leadin=draw(st.integers(0, GROUP)),
    )
    anywhere = st.sets(st.integers(1, frames), max_size=12)
    runs = st.builds(
        lambda a, b: set(range(a, b)), st.integers(1, frames), st.integers(1, frames)
    )  # shots of one frame
    return grid, frozenset(draw(anywhere | runs)) - {frames}


def reference(grid: Grid, cuts: frozenset[int], n: int) -> list[tuple[int, int | None]]:
    """The rules, read aloud: one list of (frame, previous frame) for output n."""
    chunk_start = max(0, n // grid.chunk * grid.chunk - grid.warmup)
    steps: list[tuple[int, int | None]] = []
    for t in range(chunk_start, n + 1):
        if t != 0 and t not in cuts:
            steps.append((t, None if t == chunk_start else t - 1))
            continue
        shot = [t]
        while shot[-1] + 1 < grid.frames and shot[-1] + 1 not in cuts and len(shot) <= grid.leadin:
            shot.append(shot[-1] + 1)
        route = shot[::-1]
        steps.extend(zip(route, [None, *route[:-1]], strict=True))
    return steps


def walk(grid: Grid, cuts: frozenset[int], chunk: int) -> dict[int, tuple[Step, ...]]:
    """Read and step through a chunk as the engine does, learning cuts only from what has been read."""
    read_to = grid.first_read(chunk)
    made: dict[int, tuple[Step, ...]] = {}
    for frame in range(grid.start(chunk), grid.stop(chunk)):
        while (steps := grid.steps(chunk, frame, {c for c in cuts if c < read_to}, read_to)) is None:
            look = grid.next_read(chunk, read_to)
            assert 0 < len(look) <= GROUP
            assert look.start == read_to
            read_to = look.stop
        assert all(grid.first_read(chunk) <= s.frame < read_to for s in steps)
        made[frame] = steps
    return made


@given(grids())
def test_stepping_with_partial_knowledge_equals_the_rules(case: tuple[Grid, frozenset[int]]) -> None:
    grid, cuts = case
    for chunk in range(grid.chunk_of(grid.frames - 1) + 1):
        made = walk(grid, cuts, chunk)
        for n in range(chunk * grid.chunk, grid.stop(chunk)):
            wanted = reference(grid, cuts, n)
            assert [(s.frame, s.previous) for t in range(grid.start(chunk), n + 1) for s in made[t]] == wanted
            assert [(s.frame, s.previous) for s in plan(grid, n, cuts)] == wanted


@given(grids())
def test_every_frame_is_made_once_and_no_state_crosses_a_cut(case: tuple[Grid, frozenset[int]]) -> None:
    grid, cuts = case
    made = [
        n for chunk in range(grid.chunk_of(grid.frames - 1) + 1) for n in range(chunk * grid.chunk, grid.stop(chunk))
    ]
    assert made == list(range(grid.frames))
    shot = [sum(c <= t for c in cuts) for t in range(grid.frames)]
    for n in (0, grid.frames // 2, grid.frames - 1):
        for step in plan(grid, n, cuts):
            assert step.previous is None or shot[step.previous] == shot[step.frame]


@given(grids())
def test_a_seek_costs_at_most_chunk_warmup_and_the_lead_ins(case: tuple[Grid, frozenset[int]]) -> None:
    grid, cuts = case
    for n in range(grid.frames):
        assert len(list(plan(grid, n, cuts))) <= grid.chunk + grid.warmup + grid.leadin * (len(cuts) + 1)


@given(grids(), st.integers(0, 9))
def test_milestones_are_few_even_and_between_reads(case: tuple[Grid, frozenset[int]], most: int) -> None:
    grid, _ = case
    for chunk in range(grid.chunk_of(grid.frames - 1) + 1):
        start, stop = grid.first_read(chunk), grid.stop(chunk)
        found = [start, *(t for t in range(start, stop) if grid.is_milestone(chunk, t, most)), stop]
        assert len(found) - 2 <= most
        gaps = [b - a for a, b in pairwise(found)]
        assert all(gap == gaps[0] and gap % GROUP == 0 for gap in gaps[:-1])
        if most:
            assert max(gaps) < (stop - start) / most + 2 * GROUP
