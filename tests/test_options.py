"""`vs_rafrvsr.upscale` and the types of its arguments: one clear error, or the same as the default."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import vapoursynth as vs

import vs_rafrvsr
from vs_rafrvsr import OptionError, Options, options
from vs_rafrvsr.options import Arguments

CLIP = vs.core.std.BlankClip(format=vs.GRAY8, width=16, height=16, length=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"chunk": "a"}, "chunk='a' is of the wrong type; use a whole number, or leave it out"),
        ({"leadin": 2.5}, "leadin=2.5 is of the wrong type; use a whole number"),
        ({"flow_updates": [4]}, r"flow_updates=\[4\] is of the wrong type"),
        ({"scenecut_threshold": "a"}, "scenecut_threshold='a' is of the wrong type; use a number"),
        ({"device": 0}, "device=0 is of the wrong type; use text"),
        ({"precision": 16}, "precision=16 is of the wrong type; use text"),
        ({"scenecut": False}, "scenecut=False is of the wrong type; use text"),
        ({"model": b"rafrvsr"}, "model=b'rafrvsr' is of the wrong type; use text"),
        ({"weights": Path("w.safetensors")}, "weights=.*w.safetensors.* is of the wrong type; use text"),
        ({"weights": ""}, "weights='' names no file; use the path of a weights file, or leave it out"),
        ({"tile": 32}, r"tile needs two numbers.*, not 32; use \[0, 0\]"),
        ({"tile": "64"}, "tile needs two numbers.*, not '64'"),
        ({"tile": [64, 64, 64]}, r"tile needs two numbers.*, not \[64, 64, 64\]"),
        ({"tile": [64.5, 64]}, r"tile needs two numbers, width and height in whole pixels, not \[64.5, 64\]"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused_in_one_sentence(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=f"^Upscale: {said}"):
        vs_rafrvsr.upscale(CLIP, **arguments)


def test_none_stands_for_every_default() -> None:
    names = {field.name for field in fields(Options)}
    assert names == set(Arguments.__annotations__)
    nothing: dict[str, Any] = dict.fromkeys(names) | {"device": "cpu"}
    assert vs_rafrvsr.upscale(CLIP, **nothing).width == 64


def test_every_field_has_a_type_that_is_checked() -> None:
    listed = [name for _, _, names in options._TYPES for name in names]
    assert sorted([*listed, "tile"]) == sorted(field.name for field in fields(Options))


@pytest.mark.parametrize("name", ["weights", "model", "device", "precision", "scenecut"])
def test_an_empty_name_is_refused_by_vapoursynth_s_door_too(name: str) -> None:
    with pytest.raises(vs.Error, match=f"^Upscale: {name}=''"):
        vs.core.rafrvsr.Upscale(CLIP, **{"device": "cpu"} | {name: ""})


@pytest.mark.parametrize("subsampling", [(3, 0), (0, 3), (4, 4)])
def test_chroma_that_the_resizer_cannot_read_is_refused_at_creation(subsampling: tuple[int, int]) -> None:
    fmt = vs.core.query_video_format(vs.YUV, vs.INTEGER, 8, *subsampling)
    clip = vs.core.std.BlankClip(format=fmt.id, width=64, height=64, length=1)
    with pytest.raises(vs.Error, match=rf"^Upscale: the clip's format is {fmt.name}; .*at most 4"):
        vs.core.rafrvsr.Upscale(clip, device="cpu")


@pytest.mark.parametrize("subsampling", [(2, 1), (1, 2), (0, 2)])
def test_the_most_chroma_that_the_resizer_reads_comes_back(subsampling: tuple[int, int]) -> None:
    fmt = vs.core.query_video_format(vs.YUV, vs.INTEGER, 8, *subsampling)
    clip = vs.core.std.BlankClip(format=fmt.id, width=16, height=16, length=1)
    assert vs.core.rafrvsr.Upscale(clip, device="cpu").get_frame(0).format.id == fmt.id


def test_a_type_checker_sees_the_package_s_hints(tmp_path: Path) -> None:
    """Without `py.typed`, mypy takes an installed package for one without hints."""
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text("import vs_rafrvsr\n\nvs_rafrvsr.Options(chunk='a')\n")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--ignore-missing-imports",
        "--cache-dir",
        str(tmp_path / "cache"),
        "user.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 'Argument "chunk" to "Options" has incompatible type "str"' in done.stdout, done.stdout + done.stderr
