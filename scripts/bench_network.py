"""The network's own time on one GPU, piece by piece: PyTorch's kernels, torch.compile, ours; beside the chip's floor.

    python scripts/bench_network.py [--sizes 480x270 960x540] [--tune] [--no-compile] [--flow] [--json FILE]
    TRITON_INTERPRET=1 python scripts/bench_network.py --rehearse        (on a CPU: does the script run at all?)

Times are medians of CUDA graph replays. The floor of a piece is the larger of its operations over the card's measured
rate in a large fp16 matrix product, and of the bytes that it must read and write once over the measured copy bandwidth.
`error` is ||found - fp32|| / ||fp32||. `--tune` times every candidate of step.CANDIDATES first and goes on with
the best; the table `step.HOPPER` is filled in by hand from it. `--flow` leaves out all but encoding and flow.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from benchmarking.network import Run, Subject, milliseconds, subject
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vs_rafrvsr.engine.cuda import flow as fast_flow
from vs_rafrvsr.engine.cuda import flow_launches
from vs_rafrvsr.engine.cuda.fast import Fast
from vs_rafrvsr.engine.cuda.flow import FastFlow, batch_size
from vs_rafrvsr.engine.cuda.step import CANDIDATES, FastStep, Tile, chosen
from vs_rafrvsr.engine.runtime import Runtime
from vs_rafrvsr.models import raft
from vs_rafrvsr.models.rafrvsr import RAFRVSR, State
from vs_rafrvsr.models.warp import SCALE, space_to_depth, upsample_flow, warp
from vs_rafrvsr.options import Options
from vs_rafrvsr.schedule import GROUP


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement."""

    size: str
    piece: str
    variant: str
    ms: float
    """Per frame; not a number where it could not be had."""
    tflops: float | None = None
    arithmetic_share: float | None = None
    """Floor of the operations over the time."""
    memory_share: float | None = None
    """Floor of the bytes over the time."""
    error: float | None = None
    note: str = ""

    def __str__(self) -> str:
        def show(value: float | None, form: str) -> str:
            return "" if value is None else format(value, form)

        return (
            f"{self.size:>8} {self.piece:<16} {self.variant:<34} {self.ms:8.3f} ms {show(self.tflops, '6.0f'):>6} "
            f"{show(self.arithmetic_share, '5.0%'):>5} {show(self.memory_share, '5.0%'):>5} "
            f"{show(self.error, '.1e'):>7} {self.note}"
        )


class Bench:
    """Collects rows; knows the card's two rates."""

    def __init__(self, rehearse: bool, json_file: Path | None) -> None:
        self.rehearse, self.json_file = rehearse, json_file
        self.device = torch.device("cpu" if rehearse else "cuda")
        self.rows: list[Row] = []
        self.facts: dict[str, Any] = {"machine": "cpu" if rehearse else torch.cuda.get_device_name()}
        self.flops, self.bandwidth = self._rates()
        print(f"{self.facts['machine']}: {self.flops / 1e12:.0f} TFLOP/s fp16, {self.bandwidth / 1e12:.2f} TB/s")

    def _rates(self) -> tuple[float, float]:
        if self.rehearse:
            return 1e9, 1e9
        a, b = (torch.randn(8192, 8192, device=self.device, dtype=torch.float16) for _ in range(2))
        source = torch.randn(2**28, device=self.device)
        target = torch.empty_like(source)
        flops = 2 * 8192**3 / (milliseconds(self.device, lambda: a @ b) / 1e3)
        bandwidth = 2 * source.nbytes / (milliseconds(self.device, lambda: target.copy_(source)) / 1e3)
        self.facts |= {"fp16_flops": flops, "copy_bytes_per_s": bandwidth}
        return flops, bandwidth

    def measure(
        self,
        run: Run,
        *,
        size: str,
        piece: str,
        variant: str,
        frames: int = 1,
        work: tuple[float, float] | None = None,
        error: float | None = None,
        note: str = "",
    ) -> Row:
        """Time `run`, which makes `frames` frames, and note it; `work` is (operations, bytes) of one frame."""
        try:
            ms = milliseconds(self.device, run) / frames
        except Exception as failure:  # a variant that fails must not cost the others
            ms, note = float("nan"), f"{type(failure).__name__}: {str(failure)[:160]}"
        flops, size_bytes = work or (0.0, 0.0)
        row = Row(
            size=size,
            piece=piece,
            variant=variant,
            ms=ms,
            tflops=flops / ms / 1e9 if flops else None,
            arithmetic_share=1e3 * flops / self.flops / ms if flops else None,
            memory_share=1e3 * size_bytes / self.bandwidth / ms if size_bytes else None,
            error=error,
            note=note,
        )
        self.rows.append(row)
        print(row, flush=True)
        self.save()
        return row

    def profile(self, run: Run, what: str, top: int = 12) -> None:
        """Print where the device's time goes, run eagerly."""
        if self.rehearse:
            return
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            run()
            torch.cuda.synchronize()
        events = sorted(profiler.key_averages(), key=lambda e: -e.self_device_time_total)[:top]
        table = [(e.key[:100], e.count, e.self_device_time_total / 1e3) for e in events]
        self.facts[f"profile {what}"] = table
        print(f"  {what}:")
        for name, count, ms in table:
            print(f"    {ms:8.3f} ms in {count:4} x {name}", flush=True)

    def save(self) -> None:
        """Write what there is so far: a run that is cut short loses nothing."""
        if self.json_file is not None:
            self.json_file.write_text(json.dumps(self.facts | {"rows": [asdict(r) for r in self.rows]}, indent=1))


def distance(found: Tensor, wanted: Tensor) -> float:
    """Relative error; anything not a number gives not a number."""
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


def psnr(found: Tensor, wanted: Tensor) -> float:
    """In dB for a range of 1, of values clamped to it."""
    error = (found.clamp(0, 1) - wanted.clamp(0, 1)).square().mean()
    return float(-10 * error.log10())


def aligned_by_pytorch(state: State, lr: Tensor, flow: Tensor) -> Tensor:
    """RAFRVSR.step's first half."""
    hr, hidden = warp(state.hr, upsample_flow(flow)), warp(state.hidden, flow)
    dtype = state.hidden.dtype
    joined = torch.cat([lr.to(dtype), space_to_depth(hr).to(dtype), hidden], 1)
    return joined.contiguous(memory_format=torch.channels_last)


def tune(s: Subject, bench: Bench) -> dict[str, Tile]:
    """The fastest correct candidate of every kernel."""
    lr, best = s.lr[:1], dict(chosen(bench.device))
    base = s.plain.base(lr)
    wanted = s.plain.step(lr, State(s.state.hr, s.state.hidden.float()), s.flow).hr - base
    for piece in ("align", "head", "body", "tail"):
        found: dict[Tile, float] = {}
        for tile in CANDIDATES[piece if piece in CANDIDATES else "convolution"]:
            step = FastStep(s.half, {**best, piece: tile})
            try:
                error = distance(step(lr, s.state, s.flow).hr - base, wanted)
            except Exception as failure:  # a candidate may need more shared memory than the card has
                print(f"  {piece} {tile}: {type(failure).__name__} {str(failure)[:120]}")
                continue
            row = bench.measure(
                alone(s, step, piece), size=s.name, piece=piece, variant=describe(tile), work=s.work[piece], error=error
            )
            if error < 5e-3 and row.ms == row.ms:
                found[tile] = row.ms
        if found:
            best[piece] = min(found, key=lambda tile: found[tile])
            print(f"  best {piece} at {s.name}: {best[piece]}", flush=True)
    bench.facts[f"chosen {s.name}"] = {piece: asdict(tile) for piece, tile in best.items()}
    return best


def alone(s: Subject, step: FastStep, piece: str) -> Run:
    """One kernel's work, or the body's."""
    lr = s.lr[:1]
    joined = step.align(lr, s.state, s.flow)
    source = s.state.hidden[0].permute(1, 2, 0).contiguous()
    hidden, hr = torch.empty_like(source), torch.empty_like(s.state.hr)
    # In place, over and over, features grow without bound: a copy comes first, one pass of 21 over the same bytes.
    runs: dict[str, Run] = {
        "align": lambda: step.align(lr, s.state, s.flow),
        "head": lambda: step.convolve(joined, step.head, hidden, relu=True),
        "body": lambda: step.residual_blocks(hidden.copy_(source)),
        "tail": lambda: step.finish(source, lr, hr),
    }
    return runs[piece]


def describe(tile: Tile) -> str:
    """A candidate in a few letters."""
    return f"{tile.rows}x{tile.columns} warps {tile.warps} stages {tile.stages}"


def pieces(s: Subject, bench: Bench, tiles: dict[str, Tile]) -> None:
    """The step and its parts on PyTorch's kernels and on ours."""
    lr, step = s.lr[:1], FastStep(s.half, tiles)
    whole = State(s.state.hr, s.state.hidden.float())
    wanted = s.plain.step(lr, whole, s.flow)
    joined_wanted = aligned_by_pytorch(whole, lr, s.flow)
    head_wanted = F.relu(s.plain.sr.head(joined_wanted))
    base = s.plain.base(lr)

    def row(piece: str, variant: str, run: Run, found: Tensor | None, truth: Tensor) -> None:
        error = None if found is None else distance(found, truth)
        bench.measure(run, size=s.name, piece=piece, variant=variant, work=s.work[piece], error=error)

    joined = aligned_by_pytorch(s.state, lr, s.flow)
    head = F.relu(s.half.sr.head(joined))
    body = s.half.sr.body(head)
    row("align", "PyTorch", lambda: aligned_by_pytorch(s.state, lr, s.flow), joined, joined_wanted)
    row("head", "PyTorch, cuDNN", lambda: F.relu(s.half.sr.head(joined)), head, head_wanted)
    row("body", "PyTorch, cuDNN", lambda: s.half.sr.body(head), body, s.plain.sr.body(head.float()))
    residual = wanted.hr - base

    def tail() -> Tensor:
        base_again: Tensor = s.half.base(lr)  # part of the piece
        return base_again + F.pixel_shuffle(s.half.sr.tail(body).float(), SCALE)

    row("tail", "PyTorch, cuDNN", tail, tail() - base, F.pixel_shuffle(s.plain.sr.tail(body.float()), SCALE))
    eager = s.half.step(lr, s.state, s.flow)
    row("step", "PyTorch, cuDNN", lambda: s.half.step(lr, s.state, s.flow), eager.hr - base, residual)

    own_joined = step.align(lr, s.state, s.flow)
    c = s.plain.channels
    back = torch.cat([own_joined[..., c + 48 : c + 51], own_joined[..., c : c + 48], own_joined[..., :c]], -1)
    row("align", "own", lambda: step.align(lr, s.state, s.flow), back.permute(2, 0, 1)[None], joined_wanted)
    small = State(s.state.hr.half(), s.state.hidden)
    row("align", "own, HR state in fp16", lambda: step.align(lr, small, s.flow), None, joined_wanted)
    x = torch.empty_like(s.state.hidden[0].permute(1, 2, 0))
    step.convolve(own_joined, step.head, x, relu=True)
    row("head", "own", lambda: step.convolve(own_joined, step.head, x, relu=True), nchw(x), head_wanted)
    x.copy_(head[0].permute(1, 2, 0))
    step.residual_blocks(x)
    own_body = nchw(x).clone()
    # In place, over and over, the features grow without bound; a copy first is part of the time (one pass of 21).
    source = head[0].permute(1, 2, 0).contiguous()
    row("body", "own", lambda: step.residual_blocks(x.copy_(source)), own_body, s.plain.sr.body(head.float()))
    features, hr = body[0].permute(1, 2, 0).contiguous(), torch.empty_like(base)
    step.finish(features, lr, hr)
    row(
        "tail",
        "own",
        lambda: step.finish(features, lr, hr),
        hr - base,
        F.pixel_shuffle(s.plain.sr.tail(body.float()), SCALE),
    )
    row("step", "own", lambda: step(lr, s.state, s.flow), step(lr, s.state, s.flow).hr - base, residual)


def nchw(x: Tensor) -> Tensor:
    """(h, w, C) -> (1, C, h, w)."""
    return x.permute(2, 0, 1)[None]


def flows(s: Subject, bench: Bench) -> None:
    """Encoding and matching per frame: in fp32 as the model does, and ours, over updates and input scales."""
    for scale in (1.0, 2.0):
        model = copy.deepcopy(s.plain)
        model.flow_input_scale = scale
        batch = min(len(s.lr) - 1, batch_size(s.size, scale, GROUP))
        tag = f"input x{scale:.0f}"
        plain, half = encodings(s, bench, model, batch, tag)
        current, previous = (raft.Features(*(f[part] for f in plain)) for part in (slice(1, None), slice(-1)))
        features = (half.context[1:].contiguous(), half.matching[1:].contiguous(), half.matching[:-1].contiguous())
        for updates in (2, 4, 6):
            model.flow_updates = updates
            fast = FastFlow(model)
            wanted, found = model.flow(current, previous, s.size), fast.flow(features, s.size)
            work = operations(partial(model.flow, select(current), select(previous), s.size))
            away = float((found - wanted).norm(dim=1).mean())
            bench.measure(
                partial(model.flow, current, previous, s.size),
                size=s.name,
                piece="flow",
                variant=f"fp32, {tag}, {updates} updates",
                frames=batch,
                work=work,
            )
            bench.measure(
                partial(fast.flow, features, s.size),
                size=s.name,
                piece="flow",
                variant=f"own, {tag}, {updates} updates",
                frames=batch,
                work=work,
                error=distance(found, wanted),
                note=f"off by {away:.3f} px on average",
            )
        bench.profile(partial(fast.flow, features, s.size), f"flow, {tag}, {s.name}")
        parts_of_flow(s, bench, fast, features, tag)


def encodings(s: Subject, bench: Bench, model: RAFRVSR, batch: int, tag: str) -> tuple[raft.Features, raft.Features]:
    """Features of `batch` + 1 frames in fp32 and ours, both timed."""
    some, fast = s.lr[: batch + 1], FastFlow(model)
    plain, half = model.encode(some), fast.encode(some)
    work = operations(lambda: model.encode(some[:1]))
    runs: dict[str, Run] = {
        f"fp32, {tag}": lambda: model.encode(some[:batch]),
        f"own, {tag}, batch {batch}": lambda: fast.encode(some[:batch]),
    }
    for (variant, run), error in zip(runs.items(), (None, distance(half.matching, plain.matching)), strict=True):
        bench.measure(run, size=s.name, piece="encode", variant=variant, frames=batch, work=work, error=error)
    bench.profile(runs[f"own, {tag}, batch {batch}"], f"encode, {tag}, {s.name}")
    return plain, half


def operations(run: Run) -> tuple[float, float]:
    """Operations of the convolutions and matrix products that PyTorch runs; the bytes are not counted."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops()), 0.0


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
        for blocks in ((4, 1, 168), (4, 2, 168), (8, 1, 128), (8, 2, 128), (8, 3, 128), (8, 2, 255)):
            with tried(CORRELATE=dict(zip(("num_warps", "num_stages", "maxnreg"), blocks, strict=True))):
                again = partial(update.correlation.correlate, current, pyramid, estimate)
                part("correlate", f"{name}, warps, stages, registers {blocks}", again)
    for pixels, warps, stages in ((32, 4, 2), (32, 4, 1), (64, 4, 1), (64, 4, 2), (64, 8, 2), (64, 8, 1), (128, 8, 1)):
        with tried(LOOK_UP_PIXELS=pixels, LOOK_UP={"num_warps": warps, "num_stages": stages}):
            blend = partial(update.correlation.blend, products, found, out)
            part("blend", f"{pixels} pixels, {warps} warps, {stages} stages", blend)
    part("update", "without its look-up", partial(update.recur, state))
    for name, plain in layers_of_flow(s.plain.raft).items():
        layer_of_flow(s, bench, plain, f"{tag}, {name}", context.shape)


def layers_of_flow(net: Any) -> dict[str, nn.Conv2d]:  # noqa: ANN401  (torchvision has no types)
    """Convolutions of RAFT, of every kind."""
    encoder, block = net.feature_encoder, net.update_block
    found = {
        "flow 1": block.motion_encoder.convflow1[0],
        "flow 2": block.motion_encoder.convflow2[0],
        "motion": block.motion_encoder.conv[0],
        "candidate": block.recurrent_block.convgru1.convq,
        "delta 1": block.flow_head.conv1,
        "delta 2": block.flow_head.conv2,
        "first": encoder.convnormrelu[0],
    }
    blocks = {"layer 1": encoder.layer1[1], "layer 2": encoder.layer2[1], "layer 3": encoder.layer3[1]}
    for name, part in blocks.items():
        for i in (1, 2, 3):
            found[f"{name}, {i}"] = getattr(part, f"convnormrelu{i}")[0]
    return found


def layer_of_flow(s: Subject, bench: Bench, plain: nn.Conv2d, name: str, shape: tuple[int, ...]) -> None:
    """A convolution and what follows it: ours, and cuDNN's without bias and ReLU and with them."""
    batch, _, rows, columns = shape
    own = flow_launches.Convolution(plain)
    finer = 8 if plain.stride[0] == 2 else {"layer 1": 4, "layer 2": 2}.get(name.split(", ")[1], 1)
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


@contextmanager
def tried(**settings: object) -> Iterator[None]:
    """The flow's launches with other blocks."""
    before = {name: getattr(flow_launches, name) for name in settings}
    for name, value in settings.items():
        setattr(flow_launches, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(flow_launches, name, value)


def select(features: raft.Features) -> raft.Features:
    """The first of a batch."""
    return raft.Features(*(f[:1] for f in features))


def whole(s: Subject, bench: Bench) -> None:
    """The network as the engine runs it, graphs included: time per frame, memory, and distance from fp32."""
    count = len(s.lr) - 1
    if not bench.rehearse:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = 0 if bench.rehearse else torch.cuda.memory_reserved()
    fast = Fast(s.half, s.size)

    def play(keep: int = 0) -> list[Tensor]:
        """All frames; the first `keep` outputs, in host memory."""
        features = fast.encode(s.lr)
        current, previous = (raft.Features(*(f[part] for f in features)) for part in (slice(1, None), slice(-1)))
        flow = fast.flow(current, previous, s.size)
        state = fast.step(s.lr[:1], fast.empty_state(s.lr[:1]), None)
        outputs = []
        for i in range(count):
            state = fast.step(s.lr[i + 1 : i + 2], state, flow[i : i + 1])
            if i < keep:
                outputs.append(state.hr.cpu())
        return outputs

    play()
    if not bench.rehearse:
        peak = (torch.cuda.max_memory_reserved() - before) / 2**30
        free, total = torch.cuda.mem_get_info()
        bench.facts[f"memory {s.name}"] = {"reserved_gib": peak, "device_in_use_gib": (total - free) / 2**30}
        print(f"  memory at {s.name}: {bench.facts[f'memory {s.name}']}")
    ms = wall(play, bench)
    found = play(keep=8)
    row = Row(
        size=s.name, piece="network", variant="engine's graphs, end to end", ms=ms / count, note=f"{count} frames"
    )
    bench.rows.append(row)
    print(row, flush=True)
    reference = fp32_outputs(s)
    worst = min(psnr(a, b) for a, b in zip(found, reference, strict=True))
    bench.facts[f"psnr fp16 against fp32, {s.name}"] = worst
    print(f"  worst PSNR of fp16 against fp32 over {len(reference)} frames at {s.name}: {worst:.1f} dB", flush=True)
    bench.save()


def fp32_outputs(s: Subject) -> list[Tensor]:
    """The first outputs in single precision throughout."""
    lr = s.lr[:9]
    features = s.plain.encode(lr)
    flow = s.plain.flow(raft.Features(*(f[1:] for f in features)), raft.Features(*(f[:-1] for f in features)), s.size)
    state = s.plain.step(lr[:1], s.plain.empty_state(lr[:1]), None)
    outputs = []
    for i in range(len(lr) - 1):
        state = s.plain.step(lr[i + 1 : i + 2], state, flow[i : i + 1])
        outputs.append(state.hr.cpu())
    return outputs


def wall(run: Run, bench: Bench, repeats: int = 10) -> float:
    """Median milliseconds by the clock, device included."""
    times = []
    for _ in range(1 if bench.rehearse else repeats):
        start = time.perf_counter()
        run()
        if not bench.rehearse:
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def compiled(s: Subject, bench: Bench) -> None:
    """torch.compile over SRNet and over the residual blocks alone."""
    lr = s.lr[:1]
    joined = aligned_by_pytorch(s.state, lr, s.flow)
    head = F.relu(s.half.sr.head(joined))
    body, net = (torch.compile(part.forward, dynamic=False) for part in (s.half.sr.body, s.half.sr))
    work = s.work
    bench.measure(lambda: body(head), size=s.name, piece="body", variant="torch.compile", work=work["body"])
    bench.measure(
        lambda: s.half.step(lr, s.state, s.flow, net),
        size=s.name,
        piece="step",
        variant="SRNet in torch.compile",
        work=work["step"],
    )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["480x270", "960x540"])
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--flow", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        sys.exit("there is no CUDA device; --rehearse runs on the CPU")
    logging.basicConfig(level=logging.INFO)
    torch.manual_seed(0)
    runtime = Runtime.choose(Options(device="cpu" if options.rehearse else "cuda"))
    with runtime.entered():  # its stream, and its numeric settings: fp32 is fp32, not TF32
        bench = Bench(options.rehearse, options.json)
        subjects = [
            subject(name, bench.device, options.rehearse) for name in (["18x16"] if options.rehearse else options.sizes)
        ]
        for s in subjects:
            if not options.flow:
                whole(s, bench)
                pieces(s, bench, tune(s, bench) if options.tune else chosen(bench.device))
            flows(s, bench)
        if not options.no_compile and not options.rehearse and not options.flow:
            for s in subjects:
                compiled(s, bench)
    bench.save()


if __name__ == "__main__":
    main()
