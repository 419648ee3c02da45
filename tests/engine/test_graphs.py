"""What runs in CUDA graphs: fixed batches, the resident state, and the way out where capturing fails."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest
import torch
from torch import Tensor

from tests.test_faults import SHORTAGES
from vs_rafrvsr.engine import once
from vs_rafrvsr.engine.cuda.graphs import Batched, Graph, GraphStep, Held


def refuse() -> None:
    raise RuntimeError("no capture here")


@pytest.fixture
def no_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", refuse)


def advance(lr: Tensor, hr: Tensor, hidden: Tensor, flow: Tensor) -> Tensor:
    """Not commutative, so that a step out of order shows."""
    hr.mul_(0.5).add_(lr.mean() + flow.mean())
    hidden.mul_(-0.7).add_(hr.mean())
    return hr + 1


def test_batches_are_always_full_and_nothing_is_lost_or_added() -> None:
    seen = []

    def run(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(x))
        return x + y, x - y

    x, y = torch.arange(7.0), torch.arange(7.0) ** 2
    for items in (1, 3, 4, 7):
        total, difference = Batched(run, 3)(x[:items], y[:items])
        assert torch.equal(total, x[:items] + y[:items])
        assert torch.equal(difference, x[:items] - y[:items])
    assert set(seen) == {3}


def test_results_survive_the_next_run_in_the_same_memory() -> None:
    memory = torch.zeros(2)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        return (memory.copy_(x),)

    batched = Batched(run, 2)
    first = batched(torch.tensor([1.0, 2.0]))[0]
    batched(torch.tensor([3.0, 4.0]))
    assert first.tolist() == [1.0, 2.0]


@pytest.mark.usefixtures("no_capture")
def test_where_capturing_fails_it_runs_eagerly_and_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "_said", set())
    several = [Graph(lambda x: (2 * x,)) for _ in range(2)]
    with caplog.at_level(logging.WARNING):
        for value in (1.0, 2.0, 3.0):
            assert all(graph(torch.tensor([value]))[0].item() == 2 * value for graph in several)
    assert len(caplog.records) == 1
    assert "no capture here" in caplog.text


@pytest.mark.usefixtures("no_capture")
@pytest.mark.parametrize("shortage", SHORTAGES, ids=str)
def test_a_shortage_of_memory_is_no_reason_to_go_eager(shortage: RuntimeError) -> None:
    def run(x: Tensor) -> tuple[Tensor, ...]:
        raise shortage

    graph = Graph(run)
    for _ in range(2):
        with pytest.raises(type(shortage)):
            graph(torch.ones(1))
    assert not graph._eager


@pytest.mark.usefixtures("no_capture")
def test_a_step_that_is_dropped_gives_its_memory_back_at_once() -> None:
    """Without the cycle collector, which may come much later: a previewer's reload makes a new one."""
    step, state = GraphStep(advance), Held(torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 2, 2))
    made = step(torch.ones(1, 3, 2, 2), state.hr, state.hidden, torch.ones(1, 2, 2, 2), state)
    watched = weakref.ref(made.hr)
    gc.disable()
    try:
        del step, made
        assert watched() is None
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_capture")
def test_a_chunk_whose_neighbour_failed_in_its_place_goes_on_from_its_own_state() -> None:
    lr, flow = torch.ones(1, 3, 2, 2), torch.ones(1, 2, 2, 2)
    failing = [False]

    def run(*tensors: Tensor) -> Tensor:
        if failing[0]:
            raise RuntimeError("something that passes")
        return advance(*tensors)

    def empty(value: float) -> Held:
        return Held(torch.full((1, 3, 8, 8), value), torch.full((1, 4, 2, 2), value))

    found = []
    for neighbour in (False, True):
        step, state, other = GraphStep(run), empty(0.0), empty(100.0)
        state = step(lr, state.hr, state.hidden, flow, state)
        failing[0] = neighbour
        if neighbour:
            with pytest.raises(RuntimeError, match="passes"):
                step(lr, other.hr, other.hidden, flow, other)
        failing[0] = False
        found.append(step(lr, state.hr, state.hidden, flow, state).hr.clone())
    assert torch.equal(*found)


@pytest.mark.usefixtures("no_capture")
def test_chunks_that_take_turns_get_what_each_would_get_alone() -> None:
    lr = [torch.full((1, 3, 2, 2), float(i)) for i in range(12)]
    flow = torch.ones(1, 2, 2, 2)

    def empty() -> Held:
        return Held(torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 2, 2))

    def alone(frames: list[Tensor]) -> list[Tensor]:
        held, found = empty(), []
        for frame in frames:
            advance(frame, held.hr, held.hidden, flow)
            found.append(held.hr + 1)
        return found

    wanted = [alone(lr[:6]), alone(lr[6:])]
    step = GraphStep(advance)
    states, found, at = [empty(), empty()], [[], []], [0, 0]  # type: list[Held], list[list[Tensor]], list[int]
    for chunk in (0, 0, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1):
        state = states[chunk]
        frame = lr[6 * chunk + at[chunk]]
        states[chunk] = step(frame, state.hr, state.hidden, flow, state)
        shown = states[chunk].frame
        assert shown is not None
        found[chunk].append(shown.clone())
        at[chunk] += 1
    for ours, theirs in zip(found, wanted, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.cuda
def test_a_capture_that_fails_leaves_the_neighbours_their_random_numbers() -> None:
    assert torch.cuda.current_stream() == torch.cuda.default_stream(), "which cannot be captured"
    graph = Graph(lambda x: (2 * x,))
    assert graph(torch.ones(1, device="cuda"))[0].item() == 2
    assert graph._graph is None
    assert torch.randn(8, device="cuda").isfinite().all()


@pytest.mark.cuda
def test_a_replay_gives_what_eager_gives_bit_for_bit() -> None:
    weight = torch.randn(8, 8, 3, 3, device="cuda")

    def run(x: Tensor) -> tuple[Tensor, ...]:
        return (torch.nn.functional.conv2d(x, weight).relu(),)

    with torch.cuda.stream(torch.cuda.Stream()):
        graph = Graph(run)
        for _ in range(3):
            x = torch.randn(1, 8, 20, 20, device="cuda")
            assert torch.equal(graph(x)[0], run(x)[0])
        assert graph._graph is not None
        torch.cuda.synchronize()
