"""What a script's output 0 is, as piped.py reports it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

MARK = "rafrvsr-clip "  # the same as in piped.py, which vspipe runs and nothing imports


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """Output 0 of a script.

    Args:
        pixel_format: ffmpeg's name of its format.
        width, height: pixels.
        frames: how many.
        rate: frames per second; for a variable rate, that of frame 0.
        variable: whether the clip declares no rate.
        props: properties of frame 0 that are numbers, text or lists of them.
    """

    pixel_format: str
    width: int
    height: int
    frames: int
    rate: Fraction
    variable: bool
    props: Mapping[str, Any]

    @classmethod
    def from_line(cls, line: str) -> Clip | None:
        """The clip of a line that vspipe has written; None for any other line, whatever a script makes of it."""
        if not line.startswith(MARK):
            return None
        try:
            report = json.loads(line.removeprefix(MARK))
        except ValueError:
            return None
        return cls(
            pixel_format=report["format"],
            width=report["width"],
            height=report["height"],
            frames=report["frames"],
            rate=Fraction(*report["rate"]),
            variable=report["variable"],
            props=report["props"],
        )
