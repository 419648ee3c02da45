"""LAW 1 at the engine's door: any order, any repetition, any interleaving of readers gives the linear result.

The model is a toy whose numbers depend on every step that was made, so that one step too many, too few or out of order
shows; the real weights go through the same property in tests/plugin/test_order.py.
"""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.test_schedule import plan
from vs_rafrvsr.engine.chunk import Chunk, SourceFrame
from vs_rafrvsr.engine.cuda.fast import Fast
from vs_rafrvsr.engine.cuda.graphs import Held
from vs_rafrvsr.engine.engine import KEPT_CHUNKS, Engine, Output, Ticket
from vs_rafrvsr.engine.network import Network
from vs_rafrvsr.engine.runtime import Runtime
from vs_rafrvsr.models import registry
from vs_rafrvsr.models.registry import RecurrentModel
from vs_rafrvsr.options import Options
from vs_rafrvsr.pixels.colour import Colour
from vs_rafrvsr.pixels.exchange import Downloaded
from vs_rafrvsr.pixels.formats import FORMATS
from vs_rafrvsr.pixels.rgb import RgbExchange
from vs_rafrvsr.schedule import GROUP, Grid

EXAMPLES = int(os.environ.get("RAFRVSR_EXAMPLES", "60"))
"""Of the property below: more for a long run by hand."""

SIZE = (4, 4)
RGBS = FORMATS["RGBS"]


class Features(NamedTuple):
    frame: Tensor


class State(NamedTuple):
    hr: Tensor


class Toy(nn.Module):
    """hr' = 0.7 hr + lr + 0.01 flow, where the flow of a pair is the difference of its frames."""

    min_size = 1
    halo = 0

    def encode(self, frames: Tensor) -> Features:
        return Features(frames)

    def flow(self, current: Features, previous: Features, size: tuple[int, int]) -> Tensor:
        return (current.frame - previous.frame)[:, :2]

    def base(self, lr: Tensor) -> Tensor:
        return lr.repeat_interleave(4, 2).repeat_interleave(4, 3)

    def empty_state(self, lr: Tensor) -> State:
        return State(torch.zeros(1, 3, 4 * SIZE[0], 4 * SIZE[1]))

    def step(self, lr: Tensor, state: State, flow: Tensor | None, stack: object = None) -> State:
        motion = 0.0 if flow is None else 0.01 * float(flow.sum())
        return State(0.7 * state.hr + self.base(lr) + motion)


def picture(n: int) -> np.ndarray:
    return np.random.default_rng(n).random((3, *SIZE), np.float32)


def source(n: int, cuts: frozenset[int]) -> SourceFrame:
    colour = Colour(matrix=1, full=True)
    return SourceFrame(colour=colour, scene_change_prev=int(n in cuts), scene_change_next=None)


def pack(numbers: list[int | None], memory: NDArray[np.uint8]) -> None:
    """Source frames, zeros for None."""
    memory.fill(0)
    for n, row in zip(numbers, memory, strict=True):
        if n is not None:
            RGBS.pack(list(picture(n)), row)


def engine(
    frames: int, cuts: frozenset[int], chunk: int, warmup: int, leadin: int, *, runs_ahead: bool = False
) -> Engine:
    """With the toy model; `runs_ahead` as on a GPU."""
    options = Options(chunk=chunk, warmup=warmup, leadin=leadin, scenecut="props", device="cpu")
    grid = Grid(frames=frames, chunk=chunk, warmup=warmup, leadin=leadin)
    runtime = Runtime.choose(options)
    core = Engine(
        Network(
            model=cast(RecurrentModel, Toy()),
            runtime=runtime,
            grid=grid,
            size=SIZE,
            exchange=RgbExchange(runtime.device),
            stack=None,
            options=options,
            numerics="toy",
        )
    )
    core.runs_ahead = core.reads_ahead = runs_ahead
    return core


REQUESTS = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def count_requests() -> Iterator[None]:
    """Says with `pytest -s` how many frames were asked for."""
    yield
    print(f"\n{next(REQUESTS)} frame requests")


def fetch(core: Engine, n: int, cuts: frozenset[int], broken: frozenset[int] = frozenset()) -> Tensor | None:
    """Output n as the filter asks for it; None where a source frame that it needs fails."""
    next(REQUESTS)
    tickets = [core.open(n)]

    def bring(ticket: Ticket, look: range) -> bool:
        asked = [m for m in look if m == n or not core.is_hole(m)]
        assert 0 < len(look) <= 16
        failed = [m for m in asked if m in broken]
        for m in failed:
            core.fail(m)
        if not failed:
            with core.bringing(ticket, look) as mine:
                if mine:
                    numbers = [m if m in asked else None for m in look]
                    core.feed(ticket, look, {m: source(m, cuts) for m in asked}, partial(pack, numbers))
        return not failed

    try:
        while not isinstance(found := core.look(tickets[0]), Output):
            if not bring(tickets[0], found):
                return None
        ahead = core.ahead(tickets[0])
        if ahead is not None:
            tickets.append(ahead[0])
            if not bring(*ahead):
                return None
        return torch.from_numpy(np.stack(RGBS.planes(found.frame.wait(), (4 * SIZE[0], 4 * SIZE[1]))))
    finally:
        for ticket in tickets:
            core.close(ticket)


def reference(frames: int, cuts: frozenset[int], chunk: int, warmup: int, leadin: int) -> Iterator[Tensor]:
    """Every output by the plan's own steps, from nothing, with no sharing at all."""
    grid, toy = Grid(frames=frames, chunk=chunk, warmup=warmup, leadin=leadin), Toy()
    lr = [torch.from_numpy(picture(n))[None] for n in range(frames)]
    for n in range(frames):
        state = toy.empty_state(lr[0])
        for step in plan(grid, n, cuts):
            if step.previous is None:
                state = toy.step(lr[step.frame], toy.empty_state(lr[0]), None)
            else:
                flow = toy.flow(Features(lr[step.frame]), Features(lr[step.previous]), SIZE)
                state = toy.step(lr[step.frame], state, flow)
        yield state.hr[0]


def test_seeks_here_and_there_leave_few_chunks_behind() -> None:
    """A chunk holds its state and source frames, device memory; outputs made on the way must not keep them alive."""
    core = engine(1200, frozenset(), 40, 4, 8, runs_ahead=True)
    for start in range(0, 1160, 40):
        fetch(core, start + 3, frozenset())
    alive = [
        c for c in gc.get_objects() if isinstance(c, Chunk) and c.network is core.network and c.read_to > c.position
    ]
    assert 0 < len(alive) <= KEPT_CHUNKS


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_outputs_that_nobody_asks_for_are_few(runs_ahead: bool) -> None:
    """A reader that takes one frame in 16 leaves the others behind; each is an HR frame in pinned memory."""
    core = engine(480, frozenset(), 240, 4, 8, runs_ahead=runs_ahead)
    stored = []
    for n in range(0, 480, GROUP):
        fetch(core, n, frozenset())
        stored.append(sum(len(course.outputs) for course in core._courses))
    assert GROUP <= max(stored) <= 3 * GROUP


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, frozenset[int], int, int, int, list[list[int]]]:
    frames = draw(st.integers(1, 70))
    chunk = draw(st.integers(1, 40))
    warmup = draw(st.integers(0, min(chunk - 1, 8)))
    leadin = draw(st.integers(0, 16))
    cuts = frozenset(draw(st.sets(st.integers(0, frames - 1), max_size=6)))
    scattered = st.lists(st.integers(0, frames - 1), min_size=1, max_size=30)
    backwards = st.integers(0, frames - 1).map(lambda n: list(range(n, -1, -1)))
    readers = draw(st.lists(scattered | backwards, min_size=1, max_size=4))
    return frames, cuts, chunk, warmup, leadin, readers


@given(cases(), st.booleans())
@settings(max_examples=EXAMPLES, deadline=None)
def test_every_order_and_every_interleaving_of_readers_gives_the_linear_result(
    case: tuple[int, frozenset[int], int, int, int, list[list[int]]], runs_ahead: bool
) -> None:
    frames, cuts, chunk, warmup, leadin, readers = case
    wanted = list(reference(frames, cuts, chunk, warmup, leadin))
    core = engine(frames, cuts, chunk, warmup, leadin, runs_ahead=runs_ahead)
    wrong: list[int] = []

    def read(order: list[int]) -> None:
        for n in order:
            got = fetch(core, n, cuts)
            if got is None or not torch.equal(got, wanted[n]):
                wrong.append(n)

    threads = [threading.Thread(target=read, args=(order,)) for order in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a reader hangs"
    assert not wrong


@given(cases(), st.data())
@settings(max_examples=40, deadline=None)
def test_a_failing_source_frame_costs_its_own_output_only(
    case: tuple[int, frozenset[int], int, int, int, list[list[int]]], data: st.DataObject
) -> None:
    frames, cuts, chunk, warmup, leadin, _ = case
    broken = frozenset(data.draw(st.sets(st.integers(0, frames - 1), min_size=1, max_size=3)))
    core = engine(frames, cuts, chunk, warmup, leadin)
    for n in range(frames):  # the first pass may meet a failure ahead of it, in the same flow group
        fetch(core, n, cuts, broken)
    got = [fetch(core, n, cuts, broken) for n in range(frames)]
    assert {n for n, frame in enumerate(got) if frame is None} == broken
    # A frame that could not be had ends a shot; otherwise nothing changes, in whatever order it is met.
    order = data.draw(st.permutations(range(frames)))
    other = engine(frames, cuts, chunk, warmup, leadin)
    for n in sorted(broken):
        fetch(other, n, cuts, broken)
    again = {n: fetch(other, n, cuts, broken) for n in order if n not in broken}
    assert all(torch.equal(cast(Tensor, frame), cast(Tensor, got[n])) for n, frame in again.items())


def test_a_frame_that_comes_after_failing_once_is_used() -> None:
    cuts: frozenset[int] = frozenset()
    wanted = list(reference(20, cuts, 10, 2, 4))
    core = engine(20, cuts, 10, 2, 4)
    assert fetch(core, 5, cuts, frozenset({5})) is None
    assert torch.equal(cast(Tensor, fetch(core, 5, cuts)), wanted[5])
    assert torch.equal(cast(Tensor, fetch(core, 9, cuts)), wanted[9])


def test_an_error_half_way_through_a_step_spoils_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts: frozenset[int] = frozenset()
    wanted = list(reference(20, cuts, 20, 0, 4))
    core = engine(20, cuts, 20, 0, 4)
    assert torch.equal(cast(Tensor, fetch(core, 3, cuts)), wanted[3])
    calls = iter(range(100))
    step = Toy.step

    def failing(self: Toy, lr: Tensor, state: State, flow: Tensor | None, stack: object = None) -> State:
        if next(calls) == 1:
            raise RuntimeError("half-way")
        return step(self, lr, state, flow)

    monkeypatch.setattr(Toy, "step", failing)
    with pytest.raises(RuntimeError, match="half-way"):
        fetch(core, 10, cuts)
    assert torch.equal(cast(Tensor, fetch(core, 10, cuts)), wanted[10])


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every step of the network."""
    made: list[int] = []
    step = Toy.step

    def counted(self: Toy, lr: Tensor, state: State, flow: Tensor | None, stack: object = None) -> State:
        made.append(1)
        return step(self, lr, state, flow)

    monkeypatch.setattr(Toy, "step", counted)
    return made


@pytest.mark.parametrize("chunk", [40, 160])
def test_steps_backwards_cost_a_few_steps_each_not_the_chunk(chunk: int, steps: list[int]) -> None:
    frames, cuts = 170, frozenset({70, 71, 130})
    wanted = list(reference(frames, cuts, chunk, 8, 4))
    core = engine(frames, cuts, chunk, 8, 4)
    for n in range(160):
        fetch(core, n, cuts)
    costs, entered = [], -1
    for n in range(159, 20, -1):
        steps.clear()
        assert torch.equal(cast(Tensor, fetch(core, n, cuts)), wanted[n])
        if n // chunk == entered:
            costs.append(len(steps))
        entered = n // chunk  # from its start, once
    assert sum(costs) < 4 * len(costs)
    assert max(costs) <= min(chunk, frames) / 8 + 16 + 3 * 4


def test_an_encode_keeps_no_snapshots_and_a_seek_few(steps: list[int]) -> None:
    core = engine(500, frozenset(), 240, 8, 4)
    for n in range(300):
        fetch(core, n, frozenset())
    assert not core._snapshots
    for n in (499, 200, 460, 30, 239):
        fetch(core, n, frozenset())
    assert 0 < len(core._snapshots) <= core.network.snapshots() == 8
    assert all(len(s._reads) <= 1 for s in core._snapshots), "a snapshot holds one frame's features, not its batch"


def test_a_snapshot_on_cuda_graphs_is_a_copy() -> None:
    """A graph writes its state in place, so a state that is shared with it would change under the snapshot."""
    core = engine(20, frozenset(), 20, 0, 0)
    network = replace(core.network, fast=cast(Fast, object()))
    state = Held(torch.ones(2), torch.ones(3))
    kept = cast(Held, network.copy(cast(registry.State, state)))
    state.hr.zero_(), state.hidden.zero_()
    assert kept.hr.sum() == 2
    assert kept.hidden.sum() == 3


@pytest.mark.parametrize("readers", [1, 2, 30])
@pytest.mark.parametrize("runs_ahead", [False, True])
def test_linear_play_steps_through_every_frame_once_however_many_threads_play(
    steps: list[int], monkeypatch: pytest.MonkeyPatch, readers: int, runs_ahead: bool
) -> None:
    download = RgbExchange.download

    def slow(self: RgbExchange, rgb: Tensor, colour: Colour) -> Downloaded:
        time.sleep(0.002)  # others ask for the frame while it is on its way
        return download(self, rgb, colour)

    monkeypatch.setattr(RgbExchange, "download", slow)
    frames = 120
    core = engine(frames, frozenset(), 40, 4, 0, runs_ahead=runs_ahead)
    order = iter(range(frames))

    def play() -> None:
        for n in order:
            fetch(core, n, frozenset())

    threads = [threading.Thread(target=play) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(steps) == frames + 2 * 4
    assert not core._snapshots, "only seeks leave some"
