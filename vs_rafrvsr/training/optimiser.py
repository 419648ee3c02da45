"""Adam and Muon over one flat vector of parameters, made for whole-step CUDA graphs and exact resume.

Weights, gradients, each moment and the running average are one fp32 vector each; a step is a handful of kernels, a
checkpoint a handful of tensors. A step whose gradient is not finite changes nothing and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
"""Muon's."""
SCALE_START = 2.0**16
SCALE_GROWTH = 2.0 ** (1 / 1000)


class Group(NamedTuple):
    """Parameters that share a learning rate: `rate` times the schedule's."""

    parameters: Sequence[nn.Parameter]
    rate: float


class Muon(NamedTuple):
    """Matrices that take orthogonal steps (Jordan et al. 2024), with Nesterov's momentum as there."""

    parameters: Sequence[nn.Parameter] = ()
    """Convolution weights (O, I, k, k), taken as O x I*k*k matrices."""
    rate: float = 1.0
    """Their learning rate over their group's."""


class Block(NamedTuple):
    """Muon's matrices of one shape in the flat vector: elements start to end are (count, rows, columns)."""

    start: int
    end: int
    shape: tuple[int, int, int]


class Optimiser:
    """Adam (Kingma & Ba 2015), and Muon for the matrices that it is given.

    Args:
        groups: every parameter to train; they become views of the flat vector, Muon's first.
        betas: Adam's decay rates.
        clip: the gradient's norm is clipped to this.
        ema: decay of the running average of weights.
        scaled: scale the loss so that fp16 gradients do not vanish; the scale halves after a step that overflows.
        muon: some of the groups' parameters.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        betas: tuple[float, float],
        clip: float,
        ema: float,
        scaled: bool = False,
        muon: Muon = Muon(),  # noqa: B008  (immutable)
    ) -> None:
        chosen = {id(p) for p in muon.parameters}
        rated = [(p, g.rate * (muon.rate if id(p) in chosen else 1)) for g in groups for p in g.parameters]
        rated.sort(key=lambda pair: (0, *_matrix(pair[0])) if id(pair[0]) in chosen else (1,))
        self.betas, self.clip, self.decay, self.scaled, self.muon = betas, clip, ema, scaled, muon
        self.weights = torch.cat([_flat(p.detach()) for p, _ in rated]).float()
        self.gradient = torch.zeros_like(self.weights)
        self.first = torch.zeros_like(self.weights)
        self.average = self.weights.clone()
        one = torch.ones((), device=self.weights.device)
        self.count, self.skipped, self.norm, self.nothing = (one * 0 for _ in range(4))
        self.scale = one * (SCALE_START if scaled else 1.0)
        rates = torch.cat([torch.full((p.numel(),), rate) for p, rate in rated])
        self.rates = rates.to(self.weights.device)
        self.blocks: list[Block] = []
        at = 0
        for p, _ in rated:
            end = at + p.numel()
            if id(p) in chosen:
                self._into_block(at, end, _matrix(p))
            p.data, p.grad = _view(self.weights[at:end], p), _view(self.gradient[at:end], p)
            at = end
        self.split = self.blocks[-1].end if self.blocks else 0
        self.second = torch.zeros_like(self.weights[self.split :])
        """Of Adam's parameters."""

    def _into_block(self, start: int, end: int, matrix: tuple[int, int]) -> None:
        last = self.blocks[-1] if self.blocks else None
        if last is not None and last.shape[1:] == matrix:
            self.blocks[-1] = Block(last.start, end, (last.shape[0] + 1, *matrix))
        else:
            self.blocks.append(Block(start, end, (1, *matrix)))

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
        update = torch.cat([*(self._muon(block, gradient, kept) for block in self.blocks), self._adam(gradient, kept)])
        # 0/0 before the first good step is the only way to a NaN here, and kept is 0 then.
        self.weights -= torch.where(fine, rate * self.rates * update, self.nothing)
        self.average += kept * (1 - self.decay) * (self.weights - self.average)
        if self.scaled:
            self.scale.mul_(0.5 + kept * (SCALE_GROWTH - 0.5))

    def _adam(self, gradient: Tensor, kept: Tensor) -> Tensor:
        """Adam's update of the parameters behind Muon's."""
        beta1, beta2 = self.betas
        gradient, first = gradient[self.split :], self.first[self.split :]
        first += kept * (1 - beta1) * (gradient - first)
        self.second += kept * (1 - beta2) * (gradient**2 - self.second)
        root = (self.second / self._grown(beta2)).sqrt()
        update: Tensor = first / self._grown(beta1) / (root + 1e-8)
        return update

    def _muon(self, block: Block, gradient: Tensor, kept: Tensor) -> Tensor:
        """Muon's update of one block, of Adam's usual size: root mean square 0.2.

        An orthogonal matrix's entries have a root mean square of 1 / sqrt(max(rows, columns)); at 0.2 one learning rate
        serves both (Liu et al. 2025, arXiv 2502.16982).
        """
        gradient, first = (x[block.start : block.end] for x in (gradient, self.first))
        first += kept * (1 - MOMENTUM) * (gradient - first)
        direction = orthogonalise(torch.lerp(gradient, first, MOMENTUM).view(block.shape))
        return direction.flatten() * (0.2 * math.sqrt(max(block.shape[1:])))

    def _grown(self, beta: float) -> Tensor:
        """1 - beta^count: the share that a running mean from zero has of its final size."""
        return -torch.expm1(self.count * math.log(beta))

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
    """The nearest orthogonal matrices, roughly: (N, rows, columns), by five Newton-Schulz steps.

    Singular values end between about 0.7 and 1.2 (Jordan et al. 2024, the quintic's coefficients).
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalise(matrices.mT).mT
    x: Tensor = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = torch.bmm(x, x.mT)
        x = 3.4445 * x + torch.bmm(-4.7750 * gram + 2.0315 * torch.bmm(gram, gram), x)
    return x


def _matrix(weight: Tensor) -> tuple[int, int]:
    """Rows and columns of a convolution's weight as a matrix."""
    return weight.shape[0], weight[0].numel()


def _flat(weight: Tensor) -> Tensor:
    """In memory order: a convolution's weight as O, k, k, I (channels last), anything else as it is."""
    return (weight.permute(0, 2, 3, 1) if weight.dim() == 4 else weight).reshape(-1)


def _view(flat: Tensor, like: Tensor) -> Tensor:
    if like.dim() == 4:
        o, i, h, w = like.shape
        return flat.view(o, h, w, i).permute(0, 3, 1, 2)
    return flat.view(like.shape)
