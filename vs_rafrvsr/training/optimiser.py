"""Adam and Muon over one flat vector of parameters, made for whole-step CUDA graphs and exact resume.

Weights, gradients, both moments and the running average are one fp32 vector each; a step is a handful of kernels, a
checkpoint a handful of tensors. A step whose gradient is not finite changes nothing and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

SCALE_START = 2.0**16
SCALE_GROWTH = 2.0 ** (1 / 1000)


class Group(NamedTuple):
    """Parameters that share a learning rate: `rate` times the schedule's."""

    parameters: Sequence[nn.Parameter]
    rate: float


class Optimiser:
    """Adam (Kingma & Ba 2015), with Muon's direction (Jordan et al. 2024) for the matrices given in `muon`.

    Args:
        groups: every parameter to train; they become views of the flat vector.
        betas: Adam's decay rates.
        clip: the gradient's norm is clipped to this.
        ema: decay of the running average of weights.
        scaled: scale the loss so that fp16 gradients do not vanish; the scale halves after a step that overflows.
        muon: convolution weights of one shape (O, I, k, k), taken as O x I*k*k matrices.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        betas: tuple[float, float],
        clip: float,
        ema: float,
        scaled: bool = False,
        muon: Sequence[nn.Parameter] = (),
    ) -> None:
        parameters = [p for group in groups for p in group.parameters]
        self.betas, self.clip, self.decay, self.scaled = betas, clip, ema, scaled
        self.weights = torch.cat([_flat(p.detach()) for p in parameters]).float()
        self.gradient = torch.zeros_like(self.weights)
        self.first, self.second = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self.average = self.weights.clone()
        one = torch.ones((), device=self.weights.device)
        self.count, self.skipped, self.norm, self.nothing = (one * 0 for _ in range(4))
        self.scale = one * (SCALE_START if scaled else 1.0)
        rates = [torch.full((p.numel(),), group.rate) for group in groups for p in group.parameters]
        self.rates = torch.cat(rates).to(self.weights.device) if len({g.rate for g in groups}) > 1 else one
        self.muon: list[tuple[int, int]] = []
        wanted = {id(p) for p in muon}
        self.muon_shape = (muon[0].shape[0], muon[0][0].numel()) if muon else (0, 0)
        at = 0
        for p in parameters:
            end = at + p.numel()
            if id(p) in wanted:
                self.muon.append((at, end))
            p.data, p.grad = _view(self.weights[at:end], p), _view(self.gradient[at:end], p)
            at = end

    def backward(self, loss: Tensor) -> None:
        """The gradient of `loss`, in place of the last one."""
        self.gradient.zero_()
        (loss * self.scale).backward()

    @torch.no_grad()
    def step(self, rate: Tensor) -> None:
        """One update at the learning rate `rate`, a scalar on the device."""
        self.norm.copy_((self.gradient / self.scale).norm())
        fine = self.norm.isfinite()
        shrink = (self.clip / (self.norm + 1e-6)).clamp(max=1) / self.scale
        gradient = torch.where(fine, self.gradient * shrink, self.nothing)
        kept = fine.float()
        self.count += kept
        self.skipped += 1 - kept
        beta1, beta2 = self.betas
        self.first += kept * (1 - beta1) * (gradient - self.first)
        self.second += kept * (1 - beta2) * (gradient**2 - self.second)
        first = self.first / -torch.expm1(self.count * math.log(beta1))
        second = self.second / -torch.expm1(self.count * math.log(beta2))
        update = first / (second.sqrt() + 1e-8)
        self._orthogonal(update)
        # 0/0 before the first good step is the only way to a NaN here, and kept is 0 then.
        self.weights -= torch.where(fine, rate * self.rates * update, self.nothing)
        self.average += kept * (1 - self.decay) * (self.weights - self.average)
        if self.scaled:
            self.scale.mul_(0.5 + kept * (SCALE_GROWTH - 0.5))

    def _orthogonal(self, update: Tensor) -> None:
        """Replace Muon's matrices in `update` by their orthogonal factor, scaled to Adam's usual size.

        Size: 0.2 sqrt(max(rows, columns)), so that one learning rate serves both (Liu et al. 2025, arXiv 2502.16982).
        """
        if self.muon:
            matrices = torch.stack([self.first[a:b].view(self.muon_shape) for a, b in self.muon])
            directions = orthogonalise(matrices) * (0.2 * max(self.muon_shape) ** 0.5)
            for (a, b), direction in zip(self.muon, directions, strict=True):
                update[a:b] = direction.flatten()

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs."""
        names = ("weights", "first", "second", "average", "count", "skipped", "scale")
        return {name: getattr(self, name) for name in names}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Take up a state; its vectors must have this optimiser's lengths."""
        for name, tensor in self.state().items():
            if state[name].shape != tensor.shape:
                raise ValueError(
                    f"checkpoint's {name} is {tuple(state[name].shape)}, the model needs {tuple(tensor.shape)}"
                )
            tensor.copy_(state[name])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the network holds the running average instead of its weights."""
        held = self.weights.clone()
        with torch.no_grad():
            self.weights.copy_(self.average)
        try:
            yield
        finally:
            with torch.no_grad():
                self.weights.copy_(held)


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest orthogonal matrices, roughly: (N, rows, columns), rows <= columns, by five Newton-Schulz steps.

    Singular values end between about 0.7 and 1.2 (Jordan et al. 2024, the quintic's coefficients).
    """
    x: Tensor = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = torch.bmm(x, x.mT)
        x = 3.4445 * x + torch.bmm(-4.7750 * gram + 2.0315 * torch.bmm(gram, gram), x)
    return x


def _flat(weight: Tensor) -> Tensor:
    """In memory order: a convolution's weight as O, k, k, I (channels last), anything else as it is."""
    return (weight.permute(0, 2, 3, 1) if weight.dim() == 4 else weight).reshape(-1)


def _view(flat: Tensor, like: Tensor) -> Tensor:
    if like.dim() == 4:
        o, i, h, w = like.shape
        return flat.view(o, h, w, i).permute(0, 3, 1, 2)
    return flat.view(like.shape)
