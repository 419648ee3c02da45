"""Whatever is passed, there is a frame of the right kind or one clear error, and the process lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugin.clips import DEVICES, core, moving, pixels, rgb_clip
from tests.plugin.test_pixels import FORMATS
from vs_rafrvsr.models.registry import MODELS

SMALL = core.std.BlankClip(format=vs.GRAY8, width=16, height=16, length=2)
INTEGERS = ("leadin", "chunk", "warmup", "flow_updates", "tile")
REALS = ("scenecut_threshold",)
TEXTS = ("model", "weights", "device", "precision", "scenecut")

numbers = st.integers() | st.integers(-3, 40) | st.floats() | st.booleans()
texts = st.text(max_size=20) | st.sampled_from(
    ["cpu", "cuda:99999999999999999999", "fp32", "a" * 5000, "../..", "/dev/zero"]
)
others = st.sampled_from([SMALL, SMALL.get_frame(0), core, print, object(), {}, {"a": 1}, [[1]], lambda n: n])
anything = numbers | texts | st.binary(max_size=20) | others
values = anything | st.lists(anything, max_size=4) | st.none()


def create(**arguments: Any) -> str | None:  # noqa: ANN401
    """The error's message; None where there is none. VapourSynth itself refuses what it cannot convert to a number."""
    try:
        core.rafrvsr.Upscale(**arguments)
    except vs.Error as error:
        return str(error)
    except (TypeError, ValueError, OverflowError):
        assert any(arguments.get(name) is not None for name in (*INTEGERS, *REALS)), "only numbers are converted"
        return None
    return None


def check(message: str | None) -> None:
    assert message is None or (message.startswith("Upscale: ") and "unexpected" not in message), message


@pytest.mark.parametrize("name", ["clip", *INTEGERS, *REALS, *TEXTS])
@given(value=values)
@settings(max_examples=60, deadline=None)
def test_an_argument_of_any_type_and_value(name: str, value: object) -> None:
    check(create(**({"clip": SMALL, "device": "cpu"} | {name: value})))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(INTEGERS, numbers) | dict.fromkeys(TEXTS, texts)))
@settings(max_examples=100, deadline=None)
def test_arguments_together(arguments: dict[str, object]) -> None:
    check(create(**({"clip": SMALL} | arguments)))


def test_names_that_are_no_text_are_shown_as_what_they_are() -> None:
    for name, value in (("weights", b"/tmp/\xff\xfe.safetensors"), ("weights", b"/tmp/a\0b"), ("device", b"\xff")):
        message = create(clip=SMALL, **{name: value})
        check(message)
        assert message is not None
        assert r"\xff" in message or r"\udcff" in message or r"a\0b" in message
    assert create(clip=SMALL, device="cpu\0x") is not None, "a name does not end at a null character"


@st.composite
def shapes(draw: st.DrawFn) -> tuple[vs.VideoFormat, int, int]:
    """A format of any depth, width and height: from the smallest to slim ones, odd where the subsampling allows."""
    fmt = draw(st.sampled_from(FORMATS))
    if fmt.sample_type == vs.INTEGER:
        fmt = fmt.replace(bits_per_sample=draw(st.integers(8, 16)))
    slim, other = draw(st.integers(16, 40)), draw(st.integers(16, 40) | st.integers(300, 500))
    width, height = draw(st.permutations([slim, other]))
    return (
        fmt,
        -(-width >> fmt.subsampling_w) << fmt.subsampling_w,
        -(-height >> fmt.subsampling_h) << fmt.subsampling_h,
    )


@given(shapes(), st.integers(1, 3), st.sampled_from([0, 0, 32, 33, 47]), st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_every_format_at_any_size_gives_the_picture_four_times_as_large(
    shape: tuple[vs.VideoFormat, int, int], frames: int, tile: int, seed: int
) -> None:
    fmt, width, height = shape
    matrix = {} if fmt.color_family == vs.RGB else {"matrix": 1}
    clip = core.resize.Bicubic(rgb_clip(moving(frames, height, width, seed)), format=fmt.id, **matrix)
    out = core.rafrvsr.Upscale(clip, device="cpu", tile=[tile, 0] if seed % 2 else [0, tile])
    assert (out.width, out.height, out.format, out.num_frames) == (4 * width, 4 * height, fmt, frames)
    plain = core.resize.Bicubic(clip, 4 * width, 4 * height)
    top = (1 << fmt.bits_per_sample) - 1 if fmt.sample_type == vs.INTEGER else 1
    for ours, bicubic in zip(pixels(out.get_frame(frames - 1)), pixels(plain.get_frame(frames - 1)), strict=True):
        difference = np.abs(ours.astype(np.float64) - bicubic) / top
        assert difference.mean() < 0.03, f"{fmt.name} {width}x{height}"


@pytest.mark.parametrize("precision", ["fp32", "auto"])
@pytest.mark.parametrize("device", DEVICES)
@given(
    st.tuples(st.integers(16, 70), st.integers(16, 70)),
    st.tuples(st.integers(32, 72), st.integers(32, 72)),
    st.sampled_from([vs.RGB24, vs.GRAY8]),
    st.integers(0, 9),
)
@settings(max_examples=12, deadline=None)
def test_tiles_of_any_size_agree_with_the_whole_frame_to_one_step(
    device: str, precision: str, size: tuple[int, int], tile: tuple[int, int], fmt: int, seed: int
) -> None:
    """With "auto" on a GPU the whole frame is made by our kernels, tiles by PyTorch's, both in half precision."""
    matrix = {} if fmt == vs.RGB24 else {"matrix": 1}
    clip = core.resize.Bicubic(rgb_clip(moving(2, *size, seed)), format=fmt, **matrix)
    whole, tiled = (
        core.rafrvsr.Upscale(clip, device=device, tile=t, precision=precision, flow_updates=2) for t in ((0, 0), tile)
    )
    for a, b in zip(pixels(whole.get_frame(1)), pixels(tiled.get_frame(1)), strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


@given(st.data(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_weights_file_damaged_anywhere_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, cut: bool
) -> None:
    content = bytearray(MODELS["rafrvsr"].path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    places = st.integers(0, header) | st.integers(0, len(content) - 1)  # half of them in the header, which is small
    if cut:
        del content[data.draw(places) :]
    else:
        for place, bit in data.draw(st.dictionaries(places, st.integers(0, 7), min_size=1, max_size=4)).items():
            content[place] ^= 1 << bit
    path: Path = tmp_path_factory.mktemp("weights") / "file.safetensors"
    path.write_bytes(content)
    message = create(clip=SMALL, weights=str(path), device="cpu")
    check(message)
    assert message is not None
    assert "file.safetensors" in message


@given(st.sampled_from(FORMATS), st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_tiny_clips_are_refused_with_their_size_and_others_taken(fmt: vs.VideoFormat, width: int, height: int) -> None:
    width, height = width << fmt.subsampling_w, height << fmt.subsampling_h
    message = create(clip=core.std.BlankClip(format=fmt.id, width=width, height=height, length=1), device="cpu")
    if min(width, height) >= 16:
        assert message is None
    else:
        assert message is not None
        assert message.startswith(f"Upscale: the clip is {width}x{height}, and the model needs at least 16")


def test_a_clip_too_large_for_any_memory_is_refused_at_once() -> None:
    huge = core.std.BlankClip(format=vs.GRAY8, width=2**17, height=2**16, length=1)
    message = create(clip=huge, device="cpu")
    assert message is not None
    assert "GiB" in message
