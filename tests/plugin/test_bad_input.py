"""Bad input gets one clear error that starts with `Upscale: `, and the core lives on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import vapoursynth as vs

from tests.plugin.clips import core, failing_at, moving, pixels, rgb_clip, same
from vs_rafrvsr import weights
from vs_rafrvsr.models.registry import MODELS
from vs_rafrvsr.plugin.colour import RESIZERS

SHIPPED = MODELS["rafrvsr"].path


def gray(width: int = 32, height: int = 24, fmt: int = vs.GRAY8) -> vs.VideoNode:
    return core.std.BlankClip(format=fmt, width=width, height=height, length=4)


def variable(clip: vs.VideoNode, *, fmt: bool) -> vs.VideoNode:
    other = gray(fmt=vs.GRAY16) if fmt else gray(width=48)
    return core.std.Splice([clip, other], mismatch=True)


CASES: list[tuple[str, Callable[[], vs.VideoNode], dict[str, object], str]] = [
    ("variable format", lambda: variable(gray(), fmt=True), {}, "format varies"),
    ("variable size", lambda: variable(gray(), fmt=False), {}, "size varies"),
    ("tiny", lambda: gray(15, 24), {}, "15x24.*at least 16"),
    ("32-bit integer", lambda: gray(fmt=vs.GRAY32), {}, "Gray32.*resize"),
    ("unknown model", gray, {"model": "esrgan"}, "model='esrgan'.*'rafrvsr'"),
    ("unknown device", gray, {"device": "gpu"}, "device='gpu'.*'cuda:N'"),
    ("device number", gray, {"device": "cuda:97"}, "cuda:97"),
    ("precision", gray, {"precision": "bf16"}, "precision='bf16'.*'fp32'"),
    ("half on the CPU", gray, {"precision": "fp16", "device": "cpu"}, "fp16.*CUDA"),
    ("negative tile", gray, {"tile": [-8, 0]}, "tile width=-8"),
    ("huge tile", gray, {"tile": [0, 100000]}, "tile height=100000"),
    ("three tiles", gray, {"tile": [64, 64, 64]}, "tile needs two numbers"),
    ("chunk 0", gray, {"chunk": 0}, "chunk=0"),
    ("huge chunk", gray, {"chunk": 10**12}, "chunk=1000000000000"),
    ("negative warm-up", gray, {"warmup": -1}, "warmup=-1"),
    ("warm-up as long as the chunk", gray, {"chunk": 10, "warmup": 10}, "warmup=10.*smaller than chunk"),
    ("lead-in", gray, {"leadin": 17}, "leadin=17"),
    ("flow updates", gray, {"flow_updates": 0}, "flow_updates=0"),
    ("scenecut", gray, {"scenecut": "yes"}, "scenecut='yes'.*'detect'"),
    ("threshold", gray, {"scenecut_threshold": float("nan")}, "scenecut_threshold=nan"),
    ("missing weights", gray, {"weights": "missing.safetensors"}, "missing.safetensors"),
]


@pytest.mark.parametrize(("clip", "arguments", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_creation_refuses_with_a_message_that_helps(
    clip: Callable[[], vs.VideoNode], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(vs.Error, match=f"(?s)^Upscale: .*{message}"):
        core.rafrvsr.Upscale(clip(), **arguments)


def test_what_is_no_clip_is_refused_by_vapoursynth_itself() -> None:
    for wrong in (5, "clip.mkv", core.std.BlankAudio()):
        with pytest.raises(vs.Error, match=r"^Upscale: "):
            core.rafrvsr.Upscale(wrong)


def damaged(tmp_path: Path, how: str) -> Path:
    data = bytearray(SHIPPED.read_bytes())
    match how:
        case "truncated":
            del data[len(data) // 2 :]
        case "empty":
            data.clear()
        case "bit flipped":
            data[-1000] ^= 4
        case "header flipped":
            data[data.index(b"channels") + 12] ^= 1
        case "claims 10 GB":
            data[:8] = (10 * 2**30).to_bytes(8, "little")
        case "other program's":
            from safetensors.torch import save
            from torch import zeros

            data[:] = save({"x": zeros(3)})
        case "no safetensors":
            data[:] = b"PK\x03\x04" + bytes(5000)
    path = tmp_path / "file.safetensors"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "how", ["truncated", "empty", "bit flipped", "header flipped", "claims 10 GB", "other program's", "no safetensors"]
)
def test_a_bad_weights_file_is_refused(tmp_path: Path, how: str) -> None:
    with pytest.raises(vs.Error, match=r"(?s)^Upscale: .*file\.safetensors"):
        core.rafrvsr.Upscale(gray(), weights=str(damaged(tmp_path, how)))


def test_weights_that_do_not_fit_their_own_configuration_are_refused(tmp_path: Path) -> None:
    header, tensors = weights.load(SHIPPED)
    path = tmp_path / "file.safetensors"
    weights.save(path, weights.Header(**(vars(header) | {"config": header.config | {"blocks": 9}})), tensors)
    with pytest.raises(vs.Error, match=r"(?s)^Upscale: .*does not fit its own configuration"):
        core.rafrvsr.Upscale(gray(), weights=str(path))


@pytest.mark.parametrize("field", [1, 2])
def test_interlaced_frames_are_refused_where_they_are_met(field: int) -> None:
    clip = rgb_clip(moving(6, 24, 32))
    mixed = clip[:3] + core.std.SetFrameProps(clip[3], _FieldBased=field) + clip[4:]
    out = core.rafrvsr.Upscale(mixed)
    with pytest.raises(vs.Error, match=rf"^Upscale: frame 3 is interlaced.*={field}.*deinterlace"):
        out.get_frame(3)
    for n in (0, 2, 4, 5):
        out.get_frame(n)


def test_a_failing_source_frame_passes_its_message_on_and_later_frames_work() -> None:
    clip = rgb_clip(moving(8, 24, 32))
    out = core.rafrvsr.Upscale(failing_at(clip, 3, "disc unreadable"))
    for _ in range(2):
        with pytest.raises(vs.Error, match="disc unreadable"):
            out.get_frame(3)
    after = [out.get_frame(n) for n in (4, 5, 6, 7, 2, 0)]
    fresh = core.rafrvsr.Upscale(clip[4:])
    assert same(after[0], fresh.get_frame(0)), "the frame after a gap begins a shot"
    assert same(after[3], fresh.get_frame(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_bad_float_samples_stay_where_they_are_and_the_state_recovers(bad: float) -> None:
    frames = moving(12, 24, 32)
    good = [pixels(f) for f in core.rafrvsr.Upscale(rgb_clip(frames.copy())).frames()]
    frames[2, 1, 10, 12] = bad
    found = [pixels(f) for f in core.rafrvsr.Upscale(rgb_clip(frames)).frames()]
    assert np.isfinite(found).all()
    differences = np.abs(np.subtract(found, good))
    assert differences[[0, 1, 11]].max() < 0.05
    differences[2, :, 4 * (10 - 3) : 4 * (10 + 4), 4 * (12 - 3) : 4 * (12 + 4)] = 0
    assert differences[2].max() < 0.05, "more than the sample's surroundings changed"


@pytest.mark.parametrize(
    ("props", "message"),
    [
        ({"_Matrix": 0}, r"_Matrix=0.*SetFrameProps\(_Matrix"),
        ({"_Matrix": 3}, r"_Matrix=3.*one of 1, 4, 5"),
        ({"_Matrix": 14}, r"_Matrix=14 without _Transfer.*SetFrameProps"),
        ({"_Matrix": 14, "_Transfer": 16}, "_Matrix=14 without _Primaries"),
        ({"_Transfer": 99}, "_Transfer=99"),
        ({"_Primaries": 3}, "_Primaries=3"),
        ({"_Range": 7}, "_Range=7"),
        ({"_ChromaLocation": 9}, "_ChromaLocation=9"),
        ({"_FieldBased": 7}, "_FieldBased=7.*deinterlace"),
    ],
)
def test_colour_that_means_nothing_costs_its_frame_and_is_named(props: dict[str, int], message: str) -> None:
    clip = core.resize.Bicubic(rgb_clip(moving(20, 24, 32)), format=vs.YUV420P8, matrix=1)
    out = core.rafrvsr.Upscale(clip[:18] + core.std.SetFrameProps(clip[18:], **props), device="cpu")
    out.get_frame(0)
    with pytest.raises(vs.Error, match=f"^Upscale: frame 18 has {message}|^Upscale: frame 18 is .*{message}"):
        out.get_frame(18)
    out.get_frame(1)


def test_every_code_that_is_let_in_is_converted() -> None:
    """`colour.RESIZERS` against the resizer itself."""
    clip = core.resize.Bicubic(rgb_clip(moving(1, 16, 16)), format=vs.YUV420P8, matrix=1)
    for name, codes in RESIZERS.items():
        for code in codes:
            beside = {"_Transfer": 16 if code == 14 else 1, "_Primaries": 9} if name == "_Matrix" and code > 9 else {}
            said = core.std.SetFrameProps(clip, **{name: code}, **beside)
            frame = core.rafrvsr.Upscale(said, device="cpu", leadin=0, flow_updates=1).get_frame(0)
            assert frame.props[name] == code
