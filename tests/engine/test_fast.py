"""The fast network against the model's own code, step after step, and LAW 1 inside it: nothing depends on company."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from tests.engine.test_flow import moving_model
from tests.engine.test_step import DEVICE, INTERPRETED, distance
from vs_rafrvsr.engine.cuda.fast import Fast, prepare
from vs_rafrvsr.engine.cuda.graphs import Held
from vs_rafrvsr.engine.cuda.step import obstacle
from vs_rafrvsr.models.rafrvsr import RAFRVSR
from vs_rafrvsr.models.raft import Features

pytestmark = [] if INTERPRETED else [pytest.mark.cuda]
SIZE = (17, 23)


@pytest.fixture(autouse=INTERPRETED)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are always full, and the interpreter is slow."""
    monkeypatch.setattr("vs_rafrvsr.engine.cuda.fast.batch_size", lambda *_: 2)


def frames(count: int) -> Tensor:
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(count)).to(DEVICE)


def select(features: Features, where: slice) -> Features:
    return Features(*(f[where] for f in features))


def test_the_recurrence_stays_close_to_single_precision() -> None:
    model = moving_model()
    with torch.inference_mode():
        fast, lr = Fast(model, SIZE), frames(3)
        plain, half = model.encode(lr), fast.encode(lr)
        wanted_flow = model.flow(select(plain, slice(1, None)), select(plain, slice(-1)), SIZE)
        found_flow = fast.flow(select(half, slice(1, None)), select(half, slice(-1)), SIZE)
        assert distance(found_flow, wanted_flow) < 0.05
        wanted, found = (
            model.step(lr[:1], model.empty_state(lr[:1]), None),
            fast.step(lr[:1], fast.empty_state(lr), None),
        )
        for i in range(2):
            one, flow = lr[i + 1 : i + 2], wanted_flow[i : i + 1]
            wanted, found = model.step(one, wanted, flow), fast.step(one, found, flow)
            base = model.base(one)
            assert distance(found.hr - base, wanted.hr - base) < 1e-2


def test_two_recurrences_that_take_turns_equal_each_alone_bit_for_bit() -> None:
    model, lr = moving_model(), frames(6)
    flow = torch.randn(1, 2, *SIZE, generator=torch.Generator().manual_seed(0)).to(DEVICE)

    def play(fast: Fast, order: list[int]) -> dict[int, Tensor]:
        """Frames 0, 1, 2 are one recurrence, 3, 4, 5 another."""
        states: dict[int, Held] = {}
        found = {}
        for n in order:
            state = states.get(n // 3) or fast.empty_state(lr[:1])
            states[n // 3] = fast.step(lr[n : n + 1], state, flow if n % 3 else None)
            found[n] = states[n // 3].hr.clone()
        return found

    with torch.inference_mode():
        fast = Fast(model, SIZE)
        alone, turns = play(fast, [0, 1, 2, 3, 4, 5]), play(fast, [3, 0, 1, 4, 2, 5])
    assert all(torch.equal(alone[n], turns[n]) for n in alone)


def test_a_frames_features_and_flow_do_not_depend_on_its_company() -> None:
    lr = frames(3)
    with torch.inference_mode():
        fast = Fast(moving_model(), SIZE)
        together = fast.encode(lr)
        for i in range(3):
            alone = fast.encode(lr[i : i + 1])
            assert all(torch.equal(a[0], t[i]) for a, t in zip(alone, together, strict=True))
        flow = fast.flow(select(together, slice(1, None)), select(together, slice(-1)), SIZE)
        for i in range(2):
            one = fast.flow(select(together, slice(i + 1, i + 2)), select(together, slice(i, i + 1)), SIZE)
            assert torch.equal(one[0], flow[i])


def test_the_plain_network_is_taken_where_the_kernels_cannot_run() -> None:
    model = moving_model()
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert prepare(model, SIZE, cpu, torch.float16) is None
    assert obstacle(model, cuda, torch.float32) == "the precision is not fp16"
    odd = RAFRVSR(channels=24, blocks=1, flow_updates=1, flow_input_scale=1.0)
    assert obstacle(odd, cuda, torch.float16) == "the model has another shape"
