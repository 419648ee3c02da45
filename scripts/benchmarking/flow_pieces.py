"""Encoding and matching, and what they are made of: in fp32 as the model does it, and ours."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarking.network import Run, Subject, flow_inputs, pairs
from benchmarking.rows import Bench, distance
from vs_rafrvsr.engine.cuda import flow as fast_flow
from vs_rafrvsr.engine.cuda import flow_launches
from vs_rafrvsr.engine.cuda.flow import FastFlow, batch_size
from vs_rafrvsr.models import raft
from vs_rafrvsr.models.rafrvsr import RAFRVSR
from vs_rafrvsr.schedule import GROUP

CORRELATE = ((4, 1, 168), (4, 2, 168), (8, 1, 128), (8, 2, 128), (8, 3, 128), (8, 2, 255))
"""Warps, stages, registers."""

BLEND = ((32, 4, 2), (32, 4, 1), (64, 4, 1), (64, 4, 2), (64, 8, 2), (64, 8, 1), (128, 8, 1))
"""Pixels, warps, stages."""


def flows(s: Subject, bench: Bench) -> None:
    """Encoding and matching per frame, over updates and input scales, and their parts."""
    for scale in (1.0, 2.0):
        model = copy.deepcopy(s.plain)
        model.flow_input_scale = scale
        batch = min(len(s.lr) - 1, batch_size(s.size, scale, GROUP))
        tag = f"input x{scale:.0f}"
        plain, half = encodings(s, bench, model, batch, tag)
        for updates in (2, 4, 6):
            model.flow_updates = updates
            matchings(s, bench, model, plain, half, f"{tag}, {updates} updates")
        fast, features = FastFlow(model), flow_inputs(half)
        bench.profile(partial(fast.flow, features, s.size), f"flow, {tag}, {s.name}")
        parts_of_flow(s, bench, fast, features, tag)
        for name, (layer, finer) in layers_of_flow(s.plain.raft).items():
            layer_of_flow(s, bench, layer, finer, features[0].shape, f"{tag}, {name}")


def encodings(s: Subject, bench: Bench, model: RAFRVSR, batch: int, tag: str) -> tuple[raft.Features, raft.Features]:
    """Features of `batch` + 1 frames in fp32 and ours, timed for `batch`."""
    frames, fast = s.lr[: batch + 1], FastFlow(model)
    plain, half = model.encode(frames), fast.encode(frames)
    slow, quick = partial(model.encode, frames[:batch]), partial(fast.encode, frames[:batch])
    measure = partial(bench.measure, size=s.name, piece="encode", frames=batch, work=operations(slow, batch))
    measure(slow, variant=f"fp32, {tag}")
    measure(quick, variant=f"own, {tag}, batch {batch}", error=distance(half.matching, plain.matching))
    bench.profile(quick, f"encode, {tag}, {s.name}")
    return plain, half


def matchings(
    s: Subject, bench: Bench, model: RAFRVSR, plain: raft.Features, half: raft.Features, variant: str
) -> None:
    """Flow of such features in fp32 and ours."""
    slow, quick = partial(model.flow, *pairs(plain), s.size), partial(FastFlow(model).flow, flow_inputs(half), s.size)
    wanted, found = slow(), quick()
    away = float((found - wanted).norm(dim=1).mean())
    batch = len(wanted)
    measure = partial(bench.measure, size=s.name, piece="flow", frames=batch, work=operations(slow, batch))
    measure(slow, variant=f"fp32, {variant}")
    note = f"off by {away:.3f} px on average"
    measure(quick, variant=f"own, {variant}", error=distance(found, wanted), note=note)


def operations(run: Run, frames: int) -> tuple[float, float]:
    """Per frame, of the convolutions and matrix products that PyTorch runs; the bytes are not counted."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / frames, 0.0


def parts_of_flow(s: Subject, bench: Bench, fast: FastFlow, features: tuple[Tensor, ...], tag: str) -> None:
    """One look-up, in some block sizes, and one update."""
    context, current, previous = features
    update, pyramid = fast.update, fast_flow._pyramid(previous, fast.levels)
    current, state = fast_flow._nhwc(current), update.begin(fast_flow._nhwc(context))
    out = state.motion[..., : update.correlation.outputs]
    found = fast._match(*features)
    products = update.correlation.correlate(current, pyramid, found)

    def part(piece: str, variant: str, run: Run) -> None:
        bench.measure(run, size=s.name, piece=piece, variant=f"{tag}, {variant}", frames=len(context))

    for name, estimate in (("true flow", found), ("wild flow", torch.rand_like(found) * context.shape[-2])):
        part("look-up", name, partial(update.correlation, current, pyramid, estimate, out=out))
        again = partial(update.correlation.correlate, current, pyramid, estimate)
        for blocks in CORRELATE:
            settings = dict(zip(("num_warps", "num_stages", "maxnreg"), blocks, strict=True))
            with patch.object(flow_launches, "CORRELATE", settings):
                part("correlate", f"{name}, warps, stages, registers {blocks}", again)
    blend = partial(update.correlation.blend, products, found, out)
    for pixels, warps, stages in BLEND:
        settings = {"num_warps": warps, "num_stages": stages}
        with patch.multiple(flow_launches, LOOK_UP_PIXELS=pixels, LOOK_UP=settings):
            part("blend", f"{pixels} pixels, {warps} warps, {stages} stages", blend)
    part("update", "without its look-up", partial(update.recur, state))


def layers_of_flow(net: Any) -> dict[str, tuple[nn.Conv2d, int]]:  # noqa: ANN401  (torchvision has no types)
    """Convolutions of RAFT, of every kind, and how much finer than the features their input is."""
    encoder, block = net.feature_encoder, net.update_block
    found = {
        "flow 1": (block.motion_encoder.convflow1[0], 1),
        "flow 2": (block.motion_encoder.convflow2[0], 1),
        "motion": (block.motion_encoder.conv[0], 1),
        "candidate": (block.recurrent_block.convgru1.convq, 1),
        "delta 1": (block.flow_head.conv1, 1),
        "delta 2": (block.flow_head.conv2, 1),
        "first": (encoder.convnormrelu[0], 8),
    }
    for name, layer, finer in (
        ("layer 1", encoder.layer1, 4),
        ("layer 2", encoder.layer2, 2),
        ("layer 3", encoder.layer3, 1),
    ):
        for i in (1, 2, 3):
            found[f"{name}, {i}"] = getattr(layer[1], f"convnormrelu{i}")[0], finer
    return found


def layer_of_flow(s: Subject, bench: Bench, plain: nn.Conv2d, finer: int, shape: torch.Size, name: str) -> None:
    """A convolution and what follows it: ours, and cuDNN's without bias and ReLU and with them."""
    batch, _, rows, columns = shape
    own = flow_launches.Convolution(plain)
    x = torch.rand(batch, finer * rows, finer * columns, own.inputs, device=bench.device).half()
    norm = torch.ones(batch, 2, own.inputs, device=bench.device)
    padding = (0, 0, 0, 0, 0, own.inputs - plain.in_channels, 0, own.outputs - plain.out_channels)
    weight = F.pad(plain.weight, padding).half().contiguous(memory_format=torch.channels_last)
    steps = cast(tuple[int, int], plain.stride), cast(tuple[int, int], plain.padding)
    runs: dict[str, Run] = {
        "own": lambda: own(x),
        "own between norms": lambda: own.normed(x, norm),
        "cuDNN, bare": lambda: F.conv2d(fast_flow._nchw(x), weight, None, *steps),
        "cuDNN, bias, ReLU": lambda: torch.cudnn_convolution_relu(
            fast_flow._nchw(x), weight, own.bias.half(), *steps, (1, 1), 1
        ),
    }
    for variant, run in runs.items():
        bench.measure(run, size=s.name, piece="layer", variant=f"{name}, {variant}", frames=batch)
