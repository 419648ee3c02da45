"""The steps of the way to the filter as it is, by taking its later ones away again in this process."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from vs_rafrvsr.engine.cuda import fast
from vs_rafrvsr.models.rafrvsr import RAFRVSR, State
from vs_rafrvsr.models.registry import Stack


def as_it_is() -> None:
    """Our kernels and CUDA graphs where they can run."""


def eager() -> None:
    """PyTorch's own kernels in fp16, the recurrent step on cuDNN, RAFT by autocast; in the filter, without graphs."""
    fast.obstacle = lambda *_: "this variant is measured without them"  # type: ignore[attr-defined]


def compiled() -> None:
    """The same with SRNet in torch.compile."""
    eager()
    torch._inductor.config.compile_threads = 1  # its workers are started through sys.executable: not so under vspipe
    plain, fuse = RAFRVSR.step, cache(_fuse)

    def step(self: RAFRVSR, lr: Tensor, state: State, flow: Tensor | None, stack: Stack | None = None) -> State:
        return plain(self, lr, state, flow, stack or fuse(self.sr))

    RAFRVSR.step = step  # type: ignore[method-assign]


def _fuse(net: nn.Module) -> Stack:
    return torch.compile(net.forward, dynamic=False)
