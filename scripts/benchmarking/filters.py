"""The filters that are compared, each chained as a user would, and the clip that all of them get."""

from __future__ import annotations

import runpy
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import vapoursynth as vs

from benchmarking import variants
from benchmarking.jobs import Job

core = vs.core
SAMPLES = Path(__file__).parents[2] / "samples"

type Build = Callable[[vs.VideoNode, Job], vs.VideoNode]


@dataclass(frozen=True, kw_only=True)
class Filter:
    """One filter, or one way of running ours."""

    build: Build
    package: str
    """To be imported by `build`."""
    variant: Callable[[], None] | None = None
    """Called first; None for filters whose network is not ours."""


def chain(job: Job) -> vs.VideoNode:
    """The filter on its source."""
    return upscaled(source(job), job)


def upscaled(clip: vs.VideoNode, job: Job) -> vs.VideoNode:
    """The filter on a clip."""
    return FILTERS[job.filter].build(clip, job)


def source(job: Job) -> vs.VideoNode:
    """Endless: `job.frames` distinct frames in VapourSynth's own cache, over and over; no Python runs per frame."""
    width, height = job.size
    fmt = vs.PresetVideoFormat[job.format]
    if job.frames == 0:
        return core.std.BlankClip(format=fmt, width=width, height=height, length=2**30, keep=True)
    clip = (pictures() if job.video is None else core.bs.VideoSource(job.video, showprogress=False))[: job.frames]
    if len(clip) < job.frames:
        raise SystemExit(f"{job.video or 'the test clip'} has {len(clip)} frames, fewer than {job.frames}")
    clip = core.resize.Bicubic(clip, width, height, format=fmt, matrix_in=1, matrix=1)
    clip.std.SetVideoCache(mode=1, fixedsize=1, maxsize=len(clip))
    for _ in clip.frames(close=True):
        pass
    return core.std.Loop(clip, 0)


def pictures() -> vs.VideoNode:
    """The project's test clip, and the same mirrored and turned: 216 frames of 640x384."""
    sys.path.insert(0, str(SAMPLES))
    truth: vs.VideoNode = runpy.run_path(str(SAMPLES / "clip.vpy"))["truth"]
    truth.std.SetVideoCache(mode=1, fixedsize=1, maxsize=len(truth))
    return truth + truth.std.FlipHorizontal() + truth.std.Turn180() + truth.std.FlipVertical()


def _rafrvsr(clip: vs.VideoNode, job: Job) -> vs.VideoNode:
    variant = FILTERS[job.filter].variant
    assert variant is not None
    variant()
    return core.rafrvsr.Upscale(clip, device=job.device)


def _through_rgb(build: Callable[[vs.VideoNode], vs.VideoNode]) -> Build:
    """The rivals take RGB in half precision: the resizer on both sides."""

    def chained(clip: vs.VideoNode, job: Job) -> vs.VideoNode:
        del job
        out = build(clip.resize.Bicubic(format=vs.RGBH, matrix_in=1))
        return out.resize.Bicubic(format=clip.format.id, matrix=1)

    return chained


def _realesrgan(streams: int) -> Build:
    """realesr-animevideov3's network with random weights."""

    def build(clip: vs.VideoNode) -> vs.VideoNode:
        import torch
        from vsrealesrgan import realesrgan
        from vsrealesrgan.srvgg_arch import SRVGGNetCompact

        with tempfile.NamedTemporaryFile(suffix=".pth") as file:
            torch.save(SRVGGNetCompact(num_feat=64, num_conv=16, upscale=4).state_dict(), file.name)
            return realesrgan(clip, num_streams=streams, model_path=file.name)

    return _through_rgb(build)


def _basicvsrpp(clip: vs.VideoNode) -> vs.VideoNode:
    """Model 1 with random weights: those that the network itself begins with."""
    import torch
    import vsbasicvsrpp
    from vsbasicvsrpp.basicvsr_net import SPyNet

    with tempfile.TemporaryDirectory() as folder:
        vsbasicvsrpp.model_dir = folder
        torch.save({}, Path(folder) / "basicvsr_plusplus_c64n7_8x1_300k_vimeo90k_bi_20210305-4ef437e2.pth")
        spynet = SPyNet(None).basic_module.state_dict(prefix="basic_module.")
        torch.save(spynet, Path(folder) / "spynet_20210409-c6c1bd09.pth")
        return vsbasicvsrpp.basicvsrpp(clip, model=1)


FILTERS = {
    "source": Filter(build=lambda clip, _: clip, package="vapoursynth"),
    "rafrvsr": Filter(build=_rafrvsr, package="vs_rafrvsr", variant=variants.as_it_is),
    "rafrvsr-eager": Filter(build=_rafrvsr, package="vs_rafrvsr", variant=variants.eager),
    "rafrvsr-compiled": Filter(build=_rafrvsr, package="vs_rafrvsr", variant=variants.compiled),
    "realesrgan-1": Filter(build=_realesrgan(streams=1), package="vsrealesrgan"),
    "realesrgan-4": Filter(build=_realesrgan(streams=4), package="vsrealesrgan"),
    "basicvsrpp": Filter(build=_through_rgb(_basicvsrpp), package="vsbasicvsrpp"),
}
"""`source` is the clip alone: what the measuring itself costs."""
