"""kernels.cu as C++ on the CPU: the same functions, called for one pixel after the other."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import vs_rafrvsr.pixels
from vs_rafrvsr.pixels.colour import Colour, parameters_in, parameters_out
from vs_rafrvsr.pixels.formats import Format

COMPILER = next((c for c in ("g++", "clang++") if shutil.which(c)), None)
KERNELS = Path(vs_rafrvsr.pixels.__file__).with_name("kernels.cu")


@cache
def _library(defines: tuple[tuple[str, str], ...]) -> ctypes.CDLL:
    if COMPILER is None:
        pytest.skip("needs a C++ compiler")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.so"
        options = [f"-D{name}={value}" for name, value in defines]
        command = [COMPILER, "-x", "c++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        subprocess.run([*command, *options, str(KERNELS), "-o", str(path)], check=True)
        return ctypes.CDLL(str(path))


def _call(name: str, fmt: Format, *arrays: NDArray[Any]) -> None:
    function: Callable[..., None] = getattr(_library(tuple(fmt.defines.items())), name)
    function(*(array.ctypes.data_as(ctypes.c_void_p) for array in arrays))


def to_rgb(fmt: Format, frame: list[NDArray[Any]], colour: Colour) -> NDArray[Any]:
    """Planes -> RGB (3, h, w)."""
    size: tuple[int, int] = frame[0].shape
    packed = np.empty(fmt.bytes(size), np.uint8)
    fmt.pack(frame, packed)
    rgb: NDArray[Any] = np.full((3, *size), np.nan, np.float32)
    strides = (size[0] * size[1], size[1], 1)
    _call("planes_to_rgb", fmt, packed, rgb, parameters_in(fmt, colour, size, strides))
    return rgb


def from_rgb(fmt: Format, rgb: NDArray[Any], colour: Colour) -> list[NDArray[Any]]:
    """RGB (3, h, w) -> planes. The tensor is handed over as (h, w, 3), so that strides count."""
    size: tuple[int, int] = rgb.shape[1:]
    packed = np.empty(fmt.bytes(size), np.uint8)
    last = np.ascontiguousarray(rgb.transpose(1, 2, 0))
    _call("rgb_to_planes", fmt, last, packed, parameters_out(fmt, colour, size, (1, 3 * size[1], 3)))
    return fmt.planes(packed, size)
