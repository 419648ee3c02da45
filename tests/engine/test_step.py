"""Our own kernels against the model's step in fp32: on the GPU, else in Triton's interpreter on tiny frames."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from benchmarking.network import stepped
from benchmarking.step_pieces import CANDIDATES

from vs_rafrvsr.engine.cuda.step import FastStep, Tile
from vs_rafrvsr.models.rafrvsr import RAFRVSR, State

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
FP16 = 2e-3
"""Relative error that half precision may cost: 2^-11 a rounding, over the layers of a small network."""

pytestmark = [] if INTERPRETED else [pytest.mark.cuda]
SIZES = [(17, 23), (16, 16), (33, 9)] if INTERPRETED else [(17, 23), (16, 16), (61, 40), (270, 480), (135, 1001)]

SMALL = (9, 21) if INTERPRETED else (17, 23)
"""Two tiles each way."""


def distance(found: Tensor, wanted: Tensor) -> float:
    """Relative error; not a number counts as infinite."""
    error = float((found.float() - wanted.float()).norm() / wanted.float().norm())
    return error if error == error else float("inf")


def make(channels: int, blocks: int, offset: float = -1.5) -> RAFRVSR:
    torch.manual_seed(channels + blocks)
    model = RAFRVSR(channels=channels, blocks=blocks, flow_updates=1, flow_input_scale=1.0, offset=offset)
    model = model.eval().requires_grad_(False)
    for weight in model.sr.parameters():
        weight.copy_(weight.half())  # the same numbers in both precisions
    return model.to(DEVICE)


def inputs(size: tuple[int, int], channels: int) -> tuple[Tensor, State, Tensor]:
    """Frame, partly outside [0, 1], state and flow, which leads far out of the frame in places."""
    generator = torch.Generator().manual_seed(size[0])
    height, width = size
    lr = 1.2 * torch.rand(1, 3, height, width, generator=generator) - 0.1
    hr = torch.rand(1, 3, 4 * height, 4 * width, generator=generator)
    hidden = torch.rand(1, channels, height, width, generator=generator).half()
    flow = 5 * torch.randn(1, 2, height, width, generator=generator)
    return lr.to(DEVICE), State(hr.to(DEVICE), hidden.to(DEVICE)), flow.to(DEVICE)


def compare(model: RAFRVSR, step: FastStep, size: tuple[int, int]) -> None:
    lr, state, flow = inputs(size, model.channels)
    nominal = lr.clamp(0, 1)
    wanted = model.step(nominal, State(state.hr, state.hidden.float()), flow)
    found = stepped(step, lr, state, flow)
    assert found.hr.dtype == torch.float32
    assert found.hidden.dtype == torch.float16
    base = model.base(nominal)
    assert distance(found.hidden, wanted.hidden) < FP16
    assert distance(found.hr - base, wanted.hr - base) < FP16


@pytest.mark.parametrize("size", SIZES)
def test_a_step_equals_the_models_in_fp32_at_odd_sizes(size: tuple[int, int]) -> None:
    channels, blocks = (16, 1) if INTERPRETED else (64, 10)
    model = make(channels, blocks)
    compare(model, FastStep(model), size)


@pytest.mark.parametrize("channels", [32] if INTERPRETED else [16, 32, 64, 128])
def test_every_width_and_the_benchmarks_phase(channels: int) -> None:
    model = make(channels, 1, offset=0.0)
    compare(model, FastStep(model), SMALL)


@pytest.mark.parametrize("tile", CANDIDATES["convolution"], ids=str)
def test_every_candidate_computes_the_same_convolution(tile: Tile) -> None:
    model = make(16 if INTERPRETED else 64, 1)
    compare(model, FastStep(model, {"body": tile}), (9, 21) if INTERPRETED else (77, 205))


@pytest.mark.parametrize(("kind", "tile"), [(k, t) for k in ("tail", "align") for t in CANDIDATES[k]], ids=str)
def test_every_candidate_of_the_other_kernels(kind: str, tile: Tile) -> None:
    model = make(16 if INTERPRETED else 64, 1)
    compare(model, FastStep(model, {kind: tile}), (9, 21) if INTERPRETED else (77, 205))


def test_no_flow_fetches_the_state_unchanged() -> None:
    model = make(16, 1)
    lr, state, _ = inputs(SMALL, 16)
    aligned = FastStep(model).align(lr, state, torch.zeros_like(lr[:, :2]))
    assert torch.equal(aligned[..., :16], state.hidden[0].permute(1, 2, 0))
    assert torch.equal(aligned[..., 64:67], lr[0].clamp(0, 1).permute(1, 2, 0).half())
    assert not aligned[..., 67:].any()


def test_the_step_may_overwrite_its_own_state() -> None:
    """A captured graph keeps one state and replaces it."""
    model = make(16, 1)
    step = FastStep(model)
    lr, state, flow = inputs(SMALL, 16)
    apart = stepped(step, lr, state, flow)
    same = State(state.hr.clone(), state.hidden.contiguous(memory_format=torch.channels_last))
    step.run(lr, same, flow, same)
    assert torch.equal(same.hr, apart.hr)
    assert torch.equal(same.hidden, apart.hidden)


def test_what_is_outside_the_nominal_range_goes_past_the_network_into_the_frame_alone() -> None:
    model = make(16, 1)
    step = FastStep(model)
    lr, state, flow = inputs(SMALL, 16)
    apart = stepped(step, lr, state, flow)
    assert torch.equal(apart.hr, stepped(step, lr.clamp(0, 1), state, flow).hr)
    frame = step.run(lr, state, flow, State(torch.empty_like(apart.hr), torch.empty_like(apart.hidden)))
    torch.testing.assert_close(frame - apart.hr, model.base(lr - lr.clamp(0, 1)), atol=1e-5, rtol=0)


def test_memory_that_nobody_wrote_does_not_reach_the_result() -> None:
    model = make(16, 1)
    step = FastStep(model)
    lr, state, flow = inputs(SMALL, 16)
    wanted = stepped(step, lr, state, flow)
    out = State(torch.full_like(state.hr, torch.nan), torch.full_like(wanted.hidden, torch.nan))
    step.run(lr, state, flow, out)
    assert torch.equal(out.hr, wanted.hr)
    assert torch.equal(out.hidden, wanted.hidden)
