"""The recurrent step and its parts: on PyTorch's kernels, on ours in all candidate tiles, and in torch.compile."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarking.network import Subject, stepped
from benchmarking.rows import Bench, distance
from vs_rafrvsr.engine.cuda.step import FastStep, Tile, chosen
from vs_rafrvsr.models.rafrvsr import RAFRVSR, State
from vs_rafrvsr.models.warp import SCALE, space_to_depth, upsample_flow, warp

type Make = Callable[[], Tensor]

CANDIDATES = {
    "convolution": (
        Tile(8, 16, 4, 3),
        Tile(8, 16, 4, 4),
        Tile(8, 16, 8, 3),
        Tile(8, 32, 8, 3),
        Tile(16, 16, 8, 3),
        Tile(16, 16, 8, 4),
        Tile(16, 32, 16, 3),
        Tile(8, 16, 4, 2),
        Tile(8, 16, 4, 1),
    ),
    "tail": (Tile(8, 16, 4, 3), Tile(8, 16, 8, 3), Tile(8, 8, 4, 3), Tile(4, 32, 8, 3), Tile(16, 16, 8, 3)),
    "align": (Tile(2, 16, 4, 1), Tile(4, 16, 4, 1), Tile(8, 8, 4, 1), Tile(1, 32, 4, 1), Tile(8, 16, 8, 1)),
}
"""What `tune` measures; the head and the body are convolutions."""

GREATEST_ERROR = 5e-3
"""Of a candidate that is correct."""


class Inputs(NamedTuple):
    """What the pieces read, (1, C, h, w) each."""

    state: State
    aligned: Tensor
    """The head's."""
    head: Tensor
    """The body's."""
    body: Tensor
    """The tail's."""


def tune(s: Subject, bench: Bench) -> dict[str, Tile]:
    """The fastest correct candidate of every kernel."""
    lr, best = s.lr[:1], dict(chosen(bench.device))
    base = s.plain.base(lr)
    wanted = s.plain.step(lr, _float(s.state), s.flow).hr - base
    for piece in ("align", "head", "body", "tail"):
        found: dict[Tile, float] = {}
        for tile in CANDIDATES[piece if piece in CANDIDATES else "convolution"]:
            step = FastStep(s.half, {**best, piece: tile})
            try:
                error = distance(stepped(step, lr, s.state, s.flow).hr - base, wanted)
            except Exception as failure:  # a candidate may need more shared memory than the card has
                print(f"  {piece} {tile}: {type(failure).__name__} {str(failure)[:120]}")
                continue
            run = ours(s, step, s.state.hidden, s.state.hidden)[piece]
            variant = f"{tile.rows}x{tile.columns} warps {tile.warps} stages {tile.stages}"
            row = bench.measure(run, size=s.name, piece=piece, variant=variant, work=s.work[piece], error=error)
            if error < GREATEST_ERROR and not math.isnan(row.ms):
                found[tile] = row.ms
        if found:
            best[piece] = min(found, key=lambda tile: found[tile])
            print(f"  best {piece} at {s.name}: {best[piece]}", flush=True)
    bench.facts[f"chosen {s.name}"] = {piece: asdict(tile) for piece, tile in best.items()}
    return best


def pieces(s: Subject, bench: Bench, tiles: dict[str, Tile] | None) -> None:
    """The step and its parts on PyTorch's kernels and on ours, in those tiles or in the usual ones."""
    lr, step = s.lr[:1], FastStep(s.half, tiles)
    base = s.plain.base(lr)
    inputs = _inputs(s)
    # The body and the tail are judged alone, the head together with what is in front of it.
    exact = Inputs(_float(s.state), align(_float(s.state), lr, s.flow), inputs.head.float(), inputs.body.float())
    wanted = {piece: make() for piece, make in by_pytorch(s.plain, s, exact).items()}

    def row(piece: str, variant: str, make: Make, truth: Tensor) -> None:
        upscaled = piece in ("tail", "step")
        error = distance(make() - base, truth - base) if upscaled else distance(make(), truth)
        bench.measure(make, size=s.name, piece=piece, variant=variant, work=s.work[piece], error=error)

    for piece, make in by_pytorch(s.half, s, inputs).items():
        row(piece, "PyTorch" if piece == "align" else "PyTorch, cuDNN", make, wanted[piece])
    channels = [3, 3 * SCALE**2, s.plain.channels]
    wanted["align"] = torch.cat(wanted["align"].split(channels, 1)[::-1], 1)
    for piece, make in ours(s, step, inputs.head, inputs.body).items():
        row(piece, "own", make, wanted[piece])
    small = State(s.state.hr.half(), s.state.hidden)
    variant = "own, HR state in fp16"
    bench.measure(
        lambda: step.align(lr, small, s.flow), size=s.name, piece="align", variant=variant, work=s.work["align"]
    )


def compiled(s: Subject, bench: Bench) -> None:
    """torch.compile over SRNet and over the residual blocks alone."""
    lr, head = s.lr[:1], _inputs(s).head
    body, net = (torch.compile(part.forward, dynamic=False) for part in (s.half.sr.body, s.half.sr))
    runs: dict[str, tuple[str, Callable[[], object]]] = {
        "body": ("torch.compile", lambda: body(head)),
        "step": ("SRNet in torch.compile", lambda: s.half.step(lr, s.state, s.flow, net)),
    }
    for piece, (variant, run) in runs.items():
        bench.measure(run, size=s.name, piece=piece, variant=variant, work=s.work[piece])


def by_pytorch(model: RAFRVSR, s: Subject, inputs: Inputs) -> dict[str, Make]:
    """Every piece by the model's own code; the tail's output and the step's are HR frames."""
    lr, net = s.lr[:1], model.sr
    return {
        "align": lambda: align(inputs.state, lr, s.flow),
        "head": lambda: F.relu(net.head(inputs.aligned)),
        "body": lambda: net.body(inputs.head),
        "tail": lambda: model.base(lr, net.tail(inputs.body)),
        "step": lambda: model.step(lr, inputs.state, s.flow).hr,
    }


def ours(s: Subject, step: FastStep, head: Tensor, body: Tensor) -> dict[str, Make]:
    """The same by our kernels, of the body's and the tail's inputs; `align` has its channels the other way round."""
    lr = s.lr[:1]
    head, body = (x[0].permute(1, 2, 0).contiguous() for x in (head, body))
    aligned, hr = step.align(lr, s.state, s.flow), torch.empty_like(s.state.hr)
    x = torch.empty_like(head)

    def run_head() -> Tensor:
        step.convolve(aligned, step.head, x, relu=True)
        return _nchw(x)

    def run_body() -> Tensor:
        # In place, over and over, features grow without bound: a copy comes first, one pass of 21 over the same bytes.
        step.residual_blocks(x.copy_(head))
        return _nchw(x)

    def run_tail() -> Tensor:
        step.finish(body, lr, hr)
        return hr

    return {
        "align": lambda: _nchw(step.align(lr, s.state, s.flow)[..., : step.channels + 3 * SCALE**2 + 3]),
        "head": run_head,
        "body": run_body,
        "tail": run_tail,
        "step": lambda: stepped(step, lr, s.state, s.flow).hr,
    }


def _inputs(s: Subject) -> Inputs:
    """As PyTorch makes them in fp16."""
    aligned = align(s.state, s.lr[:1], s.flow)
    head = F.relu(s.half.sr.head(aligned))
    return Inputs(s.state, aligned, head, s.half.sr.body(head))


def align(state: State, lr: Tensor, flow: Tensor) -> Tensor:
    """RAFRVSR.step's first half."""
    hr, hidden = warp(state.hr, upsample_flow(flow)), warp(state.hidden, flow)
    dtype = state.hidden.dtype
    aligned = torch.cat([lr.to(dtype), space_to_depth(hr).to(dtype), hidden], 1)
    return aligned.contiguous(memory_format=torch.channels_last)


def _float(state: State) -> State:
    return State(state.hr, state.hidden.float())


def _nchw(x: Tensor) -> Tensor:
    """(h, w, C) -> (1, C, h, w), a view."""
    return x.permute(2, 0, 1)[None]
