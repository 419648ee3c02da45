"""The fast network against the model's own code, step after step, and LAW 1 inside it: nothing depends on company."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from tests.engine.test_flow import moving_model
from tests.engine.test_step import DEVICE, INTERPRETED, distance
from vs_rafrvsr.engine import once
from vs_rafrvsr.engine.cuda import step
from vs_rafrvsr.engine.cuda.fast import Fast, accelerate
from vs_rafrvsr.engine.cuda.graphs import Held
from vs_rafrvsr.engine.cuda.step import obstacle
from vs_rafrvsr.models.rafrvsr import RAFRVSR
from vs_rafrvsr.models.raft import Features

pytestmark = [] if INTERPRETED else [pytest.mark.cuda]
SIZE, UPDATES = ((7, 9), 1) if INTERPRETED else ((17, 23), 2)


@pytest.fixture(scope="module", autouse=True)
def stream() -> Iterator[None]:
    """As the runtime's: what runs on the default one cannot be captured."""
    with torch.cuda.stream(None if INTERPRETED else torch.cuda.Stream()):
        yield


@pytest.fixture(scope="module")
def model() -> RAFRVSR:
    return moving_model(UPDATES)


@pytest.fixture(scope="module")
def fast(model: RAFRVSR) -> Iterator[Fast]:
    with pytest.MonkeyPatch.context() as patch:
        if INTERPRETED:  # batches are always full, and the interpreter is slow
            patch.setattr("vs_rafrvsr.engine.cuda.fast.batch_size", lambda *_: 2)
        yield Fast(model, SIZE)


def frames(count: int) -> Tensor:
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(count)).to(DEVICE)


def turned(features: Features) -> Features:
    return Features(*(f.flip(0) for f in features))


def only(features: Features, i: int) -> Features:
    return Features(*(f[i : i + 1] for f in features))


@pytest.fixture(scope="module")
def together(fast: Fast) -> tuple[Features, Tensor]:
    """Features of two frames, and the flows from each to the other."""
    with torch.inference_mode():
        features = fast.encode(frames(2))
        return features, fast.flow(features, turned(features), SIZE)


def test_the_recurrence_stays_close_to_single_precision(
    model: RAFRVSR, fast: Fast, together: tuple[Features, Tensor]
) -> None:
    lr = frames(2)
    with torch.inference_mode():
        plain = model.encode(lr)
        flows = model.flow(plain, turned(plain), SIZE)
        assert distance(together[1], flows) < 0.05
        wanted, found = (
            model.step(lr[:1], model.empty_state(lr[:1]), None),
            fast.step(lr[:1], fast.empty_state(lr), None),
        )
        for i in (1, 0):  # there and back
            one, flow = lr[i : i + 1], flows[i : i + 1]
            wanted, found = model.step(one, wanted, flow), fast.step(one, found, flow)
            base = model.base(one)
            assert distance(found.hr - base, wanted.hr - base) < 1e-2


def test_two_recurrences_that_take_turns_equal_each_alone_bit_for_bit(fast: Fast) -> None:
    lr = frames(6)
    flow = torch.randn(1, 2, *SIZE, generator=torch.Generator().manual_seed(0)).to(DEVICE)

    def play(order: list[int]) -> dict[int, Tensor]:
        """Frames 0, 1, 2 are one recurrence, 3, 4, 5 another."""
        states: dict[int, Held] = {}
        found = {}
        for n in order:
            state = states.get(n // 3) or fast.empty_state(lr[:1])
            states[n // 3] = fast.step(lr[n : n + 1], state, flow if n % 3 else None)
            found[n] = states[n // 3].hr.clone()
        return found

    with torch.inference_mode():
        alone, turns = play([0, 1, 2, 3, 4, 5]), play([3, 0, 1, 4, 2, 5])
    assert all(torch.equal(alone[n], turns[n]) for n in alone)


def test_a_frames_features_and_flow_do_not_depend_on_its_company(fast: Fast, together: tuple[Features, Tensor]) -> None:
    lr, (features, flow) = frames(2), together
    with torch.inference_mode():
        for i in range(2):
            alone = fast.encode(lr[i : i + 1])
            assert all(torch.equal(a[0], f[i]) for a, f in zip(alone, features, strict=True))
            one = fast.flow(only(features, i), only(features, 1 - i), SIZE)
            assert torch.equal(one[0], flow[i])


def test_filters_that_share_a_model_share_its_packed_weights_which_go_with_it() -> None:
    model = moving_model(UPDATES)
    one, other = Fast(model, SIZE), Fast(model, (16, 24))
    assert one.steps is other.steps
    assert one.flows is other.flows
    assert Fast(moving_model(UPDATES), SIZE).steps is not one.steps
    watched = [weakref.ref(thing) for thing in (model, one.steps, one.flows)]
    del model, one, other
    gc.collect()
    assert [ref() for ref in watched] == [None, None, None]


@pytest.mark.parametrize(
    ("capability", "triton", "reason"),
    [
        ((7, 5), 1, "the GPU is older than Ampere"),
        ((8, 0), ImportError("no module"), "Triton cannot be used (ImportError: no module)"),
        ((8, 0), OSError("no cc\nbut cl"), "Triton cannot be used (OSError: no cc)"),
        ((8, 0), 2, "Triton computes wrongly"),
        ((8, 0), 1, None),
    ],
)
def test_what_keeps_the_kernels_from_running_is_said_once(
    capability: tuple[int, int],
    triton: int | Exception,
    reason: str | None,
    model: RAFRVSR,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)

    def write(out: Tensor) -> None:
        if isinstance(triton, Exception):
            raise triton
        out.fill_(triton)

    trial = step._trouble.__wrapped__
    monkeypatch.setattr(step, "_kernels", lambda: SimpleNamespace(probe={(1,): write}))
    monkeypatch.setattr(step, "_trouble", lambda _: trial(torch.device("cpu")))
    monkeypatch.setattr(once, "_said", set())
    cuda = torch.device("cuda")
    assert obstacle(model, SIZE, cuda, torch.float16) == reason
    if reason is None:
        return
    with caplog.at_level(logging.WARNING):
        assert [accelerate(model, SIZE, cuda, torch.float16) for _ in range(2)] == [None, None]
    assert [reason in record.getMessage() for record in caplog.records] == [True]


def test_a_kernel_can_be_compiled_and_run() -> None:
    assert step._trouble.__wrapped__(DEVICE) is None


def test_the_kernels_are_taken_where_nothing_keeps_them_from_running(
    model: RAFRVSR, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vs_rafrvsr.engine.cuda.fast.obstacle", lambda *_: None)
    assert isinstance(accelerate(model, SIZE, torch.device("cuda"), torch.float16), Fast)


def test_the_plain_network_is_taken_where_the_kernels_cannot_run(model: RAFRVSR) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert accelerate(model, SIZE, cpu, torch.float16) is None
    assert obstacle(model, SIZE, cuda, torch.float32) == "the precision is not fp16"
    odd = RAFRVSR(channels=24, blocks=1, flow_updates=1, flow_input_scale=1.0)
    assert obstacle(odd, SIZE, cuda, torch.float16) == "the model has another shape"
    assert obstacle(model, (5182, 5182), cuda, torch.float16) == "the frame is too large"
