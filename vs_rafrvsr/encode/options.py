"""A clip's frame properties as ffmpeg options, all that the pipe cannot carry, beside the user's own."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from vs_rafrvsr.encode.clip import Clip
from vs_rafrvsr.errors import EncodeError

log = logging.getLogger(__name__)

DEFAULT_ENCODER = ("-c:v", "libx265", "-crf", "18")  # 8 to 12 bits, grey to 4:4:4, and it writes HDR10's metadata
SILENT = (0, 2, 3)  # codes of H.273 that say nothing of a YUV or grey picture: RGB's or reserved, unspecified, reserved
VIDEO_FILTERS = ("-vf", "-filter:v", "-filter:v:0", "-filter")
COMPLEX_FILTERS = ("-filter_complex", "-lavfi", "-filter_complex_script")

# Options that no picture depends on, whatever stream they name, and then those that have no value.
SOUND_AND_CONTAINER = (
    *("-acodec", "-ab", "-ac", "-ar", "-af", "-aq", "-sample_fmt", "-channel_layout", "-scodec"),
    *("-map", "-map_metadata", "-map_chapters", "-metadata", "-disposition", "-movflags"),
)
SWITCHES = ("-an", "-sn", "-dn", "-shortest")

# What hardware encoders take is another layout of the same samples.
LAYOUTS = {"nv12": "yuv420p", "nv16": "yuv422p", "p010le": "yuv420p10le", "p210le": "yuv422p10le"}

type Pair = tuple[float, float]

DISPLAY = "MasteringDisplay"
"""What the names of a mastering display's properties begin with."""


@dataclass(frozen=True, slots=True)
class Display:
    """A mastering display (SMPTE ST 2086).

    Args:
        red, green, blue, white: CIE 1931 x and y.
        luminance: brightest and darkest level in cd/m2.
    """

    red: Pair
    green: Pair
    blue: Pair
    white: Pair
    luminance: Pair

    @classmethod
    def from_props(cls, props: Mapping[str, Any]) -> Display | None:
        """That of a frame; None where it has none, or, with a warning, where its properties lack something."""
        given = {name.removeprefix(DISPLAY): value for name, value in props.items() if name.startswith(DISPLAY)}
        try:
            red, green, blue = zip(given["PrimariesX"], given["PrimariesY"], strict=True)
            white = (given["WhitePointX"], given["WhitePointY"])
            return cls(red, green, blue, white, (given["MaxLuminance"], given["MinLuminance"]))
        except KeyError as error:
            if given:
                log.warning("the clip's mastering display has no %s%s: it is lost", DISPLAY, error.args[0])
            return None

    def text(self, chromaticity: float, luminance: float) -> str:
        """As x265 writes it, in units of 1/chromaticity and of 1/luminance cd/m2."""

        def scaled(pair: Pair, unit: float) -> str:
            return ",".join(f"{value * unit:.10g}" if unit == 1 else str(round(value * unit)) for value in pair)

        points = {"G": self.green, "B": self.blue, "R": self.red, "WP": self.white}
        text = "".join(f"{name}({scaled(point, chromaticity)})" for name, point in points.items())
        return f"{text}L({scaled(self.luminance, luminance)})"


class Hdr10Encoder(NamedTuple):
    """How an encoder takes HDR10's metadata."""

    option: str
    """Of ffmpeg, which passes parameters on."""
    display: str
    """The parameter for the mastering display, in units of 1/chromaticity and 1/luminance."""
    chromaticity: float
    luminance: float
    light: str
    """The parameter for MaxCLL and MaxFALL (CTA-861.3) in cd/m2."""


# ffmpeg alone cannot attach this metadata to a raw video stream, so the other encoders lose it.
HDR10_ENCODERS = {
    "libx265": Hdr10Encoder("-x265-params", "master-display", 50_000, 10_000, "max-cll"),
    "libx264": Hdr10Encoder("-x264-params", "mastering-display", 50_000, 10_000, "cll"),
    "libsvtav1": Hdr10Encoder("-svtav1-params", "mastering-display", 1, 1, "content-light"),
}


def video_options(clip: Clip, chosen: Sequence[str]) -> list[str]:
    """ffmpeg's output options for the clip, ending with those chosen by the user, who therefore has the last word.

    A filter or encoder parameter of ours is merged with the user's rather than replaced by it.
    """
    options = [*DEFAULT_ENCODER, *chosen] if encoder_of(chosen) is None else list(chosen)
    colours = dict(_colours(clip.props))
    filters = list(_filters(clip.props, colours))
    if filters:
        options = _merged(options, VIDEO_FILTERS, ",".join(filters), ",")
    options = _with_hdr10(options, clip.props)
    tags = [word for name, value in colours.items() for word in (f"-{name}", value)]
    return [*tags, *options]


def check_filters(options: Sequence[str]) -> None:
    """Refuse filters that do not go together with what `encode` does to picture and sound.

    Raises:
        EncodeError: there is such a filter.
    """
    for option in options:
        if option in COMPLEX_FILTERS:
            raise EncodeError(
                f"{option} may mix picture and sound, which encode handles apart; use -vf and -af, or the script"
            )


def check_split(options: Sequence[str]) -> None:
    """Refuse what cannot be made in pieces.

    Raises:
        EncodeError: one of two passes is asked for.
    """
    for flag, value in pairwise(options):
        own = flag.endswith("-params") and re.search(r"(^|:)pass=", value)
        if own or flag.partition(":")[0] == "-pass":
            raise EncodeError(
                f"{flag} {value}: a pass over the whole film cannot be split; use -crf, or encode without --workers"
            )


def warn_of_conversion(clip: Clip, chosen: Sequence[str], formats: Callable[[str], Sequence[str]]) -> None:
    """Say that the encoder takes no such pixels as the clip's, so that ffmpeg converts them unasked.

    Args:
        clip: what is encoded.
        chosen: the user's options.
        formats: pixel formats that an encoder takes, none where that is unknown.
    """
    filters = ",".join(value for flag, value in pairwise(chosen) if flag in VIDEO_FILTERS)
    if "format=" in filters or any(option.partition(":")[0] == "-pix_fmt" for option in chosen):
        return
    encoder = encoder_of(chosen) or DEFAULT_ENCODER[1]
    taken = formats(encoder)
    if taken and clip.pixel_format not in (*taken, *(LAYOUTS.get(name) for name in taken)):
        fitting = [name for name in taken if not name.startswith(("yuvj", "gbr"))]
        alike = [name for name in fitting if _without_depth(name) == _without_depth(clip.pixel_format)]
        log.warning(
            "%s does not take the clip's %s: ffmpeg converts it to what comes closest; to choose, give -pix_fmt %s",
            encoder, clip.pixel_format, ", ".join(alike or fitting or taken),
        )  # fmt: skip


def _without_depth(pixel_format: str) -> str:
    """yuv420p16le and yuv420p are yuv420p."""
    return re.sub(r"\d*(le)?$", "", pixel_format)


def encoder_of(options: Sequence[str]) -> str | None:
    """The video encoder that ffmpeg options name; the last one counts."""
    flags = ("-c:v", "-codec:v", "-vcodec", "-c:v:0", "-c", "-codec")
    named = [value for flag, value in pairwise(options) if flag in flags]
    return named[-1] if named else None


def _colours(props: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Option and value; VapourSynth's numbers are H.273's, which ffmpeg takes as they are."""
    for prop, option in (("_Matrix", "colorspace"), ("_Primaries", "color_primaries"), ("_Transfer", "color_trc")):
        code = props.get(prop)
        if code is not None and code not in SILENT:
            yield option, str(code)
    if "_Range" in props:  # VapourSynth: 0 limited, 1 full; ffmpeg: 1 and 2
        yield "color_range", str(1 + props["_Range"])
    if "_ChromaLocation" in props:  # VapourSynth counts from 0, ffmpeg from 1
        yield "chroma_sample_location", str(1 + props["_ChromaLocation"])


def _filters(props: Mapping[str, Any], colours: Mapping[str, str]) -> Iterator[str]:
    """Filters that label the frames. Without them ffmpeg 7 and later convert to the range that -color_range names."""
    names = {"color_range": "range"}
    known = [f"{names.get(n, n)}={value}" for n, value in colours.items() if n != "chroma_sample_location"]
    if known:
        yield "setparams=" + ":".join(known)
    aspect = props.get("_SARNum", 0), props.get("_SARDen", 0)
    if all(aspect):
        yield f"setsar=sar={aspect[0]}/{aspect[1]}:max={max(aspect)}"  # max: or the ratio is rounded to small numbers


def _with_hdr10(options: list[str], props: Mapping[str, Any]) -> list[str]:
    """The options, and the metadata as parameters of the encoder: the mastering display, the content light level."""
    display, brightest = Display.from_props(props), props.get("ContentLightLevelMax")
    if display is None and brightest is None:
        return options
    encoder = encoder_of(options)
    if encoder not in HDR10_ENCODERS:
        able = ", ".join(HDR10_ENCODERS)
        log.warning(
            "the clip has HDR10 metadata, which ffmpeg cannot hand to %s: it is lost. Encoders that keep it: %s",
            encoder,
            able,
        )
        return options
    taken = HDR10_ENCODERS[encoder]
    parameters = [] if display is None else [f"{taken.display}={display.text(taken.chromaticity, taken.luminance)}"]
    if brightest is not None:
        parameters.append(f"{taken.light}={brightest},{props.get('ContentLightLevelAverage', 0)}")
    return _merged(options, (taken.option,), ":".join(parameters), ":")


def _merged(options: list[str], flags: tuple[str, ...], value: str, separator: str) -> list[str]:
    """The options with value before what the user gave last, which counts, to one of the flags; added if to none."""
    for index in reversed(range(len(options) - 1)):
        if options[index] in flags:
            return [*options[: index + 1], value + separator + options[index + 1], *options[index + 2 :]]
    return [flags[0], value, *options]


def without(options: Sequence[str], names: Collection[str]) -> Iterator[str]:
    """ffmpeg's options but for some, each of which has a value."""
    words = iter(options)
    for word in words:
        if word in names:
            next(words, None)
        else:
            yield word


def picture_options(options: Sequence[str]) -> Iterator[str]:
    """ffmpeg's options but for those of sound, subtitles and container. One that is not known to be such is kept."""
    words = iter(options)
    for word in words:
        name, _, stream = word.partition(":")
        if word.startswith("-") and (name in SOUND_AND_CONTAINER or stream[:1] in tuple("asdt")):
            next(words, None)
        elif word not in SWITCHES:
            yield word
