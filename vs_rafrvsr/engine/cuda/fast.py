"""The network on a GPU: our kernels and CUDA graphs in place of the model's own PyTorch code, for one clip's size."""

from __future__ import annotations

import logging
from functools import partial
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from vs_rafrvsr.engine.cuda.flow import FastFlow, batch_size
from vs_rafrvsr.engine.cuda.graphs import Batched, Graph, GraphStep, Held
from vs_rafrvsr.engine.cuda.step import FastStep, obstacle
from vs_rafrvsr.engine.once import is_news
from vs_rafrvsr.models.rafrvsr import RAFRVSR, State
from vs_rafrvsr.models.raft import Features
from vs_rafrvsr.schedule import GROUP

log = logging.getLogger(__name__)


class Fast:
    """`encode`, `flow` and `step` as RAFRVSR's, equal to them to fp16's rounding, for frames of one size.

    A state is used up by the step that follows it. Not for several threads at once. Flow is found for at most `most`
    frames or pairs at once.
    """

    def __init__(self, model: RAFRVSR, size: tuple[int, int], most: int = GROUP) -> None:
        self.size, self.channels = size, model.channels
        self.steps, self.flows = _packed(model)
        self.batch = batch_size(size, model.flow_input_scale, most)
        self.reset_graphs()

    def reset_graphs(self) -> None:
        """Begin with graphs that the next calls capture; the memory of those before is given back."""
        flow, size = self.flows, self.size
        # One pool: results are copied out of it before another graph runs.
        pool = torch.cuda.graph_pool_handle() if torch.cuda.is_available() else None
        self._encode = Batched(Graph(lambda frames: tuple(flow.encode(frames)), pool), self.batch)
        self._flow = Batched(Graph(lambda *features: (flow.flow(features, size),), pool), self.batch)
        self._step = GraphStep(partial(_in_place, self.steps), pool)

    def encode(self, frames: Tensor) -> Features:
        """Features of frames (B, 3, h, w) in [0, 1], fp16."""
        return Features(*self._encode(frames))

    def flow(self, current: Features, previous: Features, size: tuple[int, int]) -> Tensor:
        """Flow (B, 2, h, w) fp32 from each current frame to its previous one, in LR pixels."""
        assert size == self.size
        return self._flow(current.context, current.matching, previous.matching)[0]

    def empty_state(self, lr: Tensor) -> Held:
        """The state before the first frame of a shot: zeros."""
        height, width = lr.shape[-2:]
        hidden = lr.new_zeros(height, width, self.channels, dtype=torch.float16).permute(2, 0, 1)[None]
        return Held(lr.new_zeros(1, 3, 4 * height, 4 * width), hidden)

    def step(self, lr: Tensor, state: Held, flow: Tensor | None) -> Held:
        """One frame: lr (1, 3, h, w) fp32, flow (1, 2, h, w) to the state's frame, None for no motion."""
        return self._step(lr, state.hr, state.hidden, torch.zeros_like(lr[:, :2]) if flow is None else flow, state)


_packs: WeakKeyDictionary[RAFRVSR, tuple[FastStep, FastFlow]] = WeakKeyDictionary()


def _packed(model: RAFRVSR) -> tuple[FastStep, FastFlow]:
    """The model's weights as our kernels read them: one copy for all filters that share the model."""
    if model not in _packs:
        _packs[model] = FastStep(model), FastFlow(model)
    return _packs[model]


def _in_place(step: FastStep, lr: Tensor, hr: Tensor, hidden: Tensor, flow: Tensor) -> Tensor:
    state = State(hr, hidden)
    return step.run(lr, state, flow, state)


def accelerate(
    model: nn.Module, size: tuple[int, int], device: torch.device, dtype: torch.dtype, most: int = GROUP
) -> Fast | None:
    """The fast network where it can run; elsewhere None, and on a GPU one line in a process's log says why.

    With a smaller `most` than GROUP it takes less memory, see `Fast`.
    """
    reason = obstacle(model, size, device, dtype)
    if reason is None:
        return Fast(cast(RAFRVSR, model), size, most)
    remark = f"the fast kernels are not used: {reason}; the network runs on PyTorch's own, more slowly"
    if device.type == "cuda" and is_news(remark):
        log.warning(remark)
    return None
