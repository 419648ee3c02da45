"""x4 video super-resolution for VapourSynth: `python -m vs_rafrvsr doctor | models | encode`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from vs_rafrvsr.errors import EncodeError, RafrvsrError

ENCODE_EXAMPLE = """\
examples:
  python -m vs_rafrvsr encode upscale.vpy film_x4.mkv --source film.mkv -- -c:v libx265 -crf 16 -preset slow
  python -m vs_rafrvsr encode upscale.vpy film_x4.mkv --source film.mkv --workers 4

What follows `--` goes to ffmpeg as output options.
"""


def main(words: Sequence[str]) -> int:
    """Run one command; its exit status."""
    words, ffmpeg_options = _split(words)
    arguments = _parser().parse_args(words)
    arguments.ffmpeg_options = ffmpeg_options
    logging.basicConfig(format="%(levelname)s: %(message)s")
    received = [int(signal.SIGINT)]

    def end(number: int, frame: FrameType | None) -> None:
        """As on Ctrl-C, so that children are killed and partial files removed. Ray would alter a SystemExit."""
        del frame
        received.append(number)
        raise KeyboardInterrupt

    for ending in (signal.SIGTERM, *((signal.SIGHUP,) if sys.platform != "win32" else ())):  # HUP: the terminal closed
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as under nohup
            signal.signal(ending, end)
    try:
        return int(arguments.run(arguments))
    except RafrvsrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + received[-1]


def _split(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Our words, and those behind the first `--`, which are ffmpeg's."""
    if "--" not in words:
        return words, []
    end = words.index("--")
    return words[:end], words[end + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vs_rafrvsr", description="x4 video super-resolution for VapourSynth."
    )
    commands = parser.add_subparsers(required=True, metavar="doctor | models | encode")
    doctor = commands.add_parser("doctor", help="check this installation and say what to do about what is broken")
    doctor.set_defaults(run=_doctor)
    models = commands.add_parser("models", help="list the models: degradation, size, measured quality")
    models.set_defaults(run=_models)
    encode = commands.add_parser(
        "encode",
        help="encode a script's output through vspipe and ffmpeg with nothing lost",
        description="Encode a script's output through vspipe and ffmpeg with nothing lost. On POSIX systems only.",
        epilog=ENCODE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    encode.set_defaults(run=_encode)
    encode.add_argument("script", type=Path, metavar="SCRIPT.vpy", help="it runs in its own folder")
    encode.add_argument("out", type=Path, metavar="OUT", help="the suffix chooses the container")
    encode.add_argument("--source", type=Path, metavar="VIDEO", help="copy sound, subtitles, chapters, tags from here")
    encode.add_argument(
        "--frames", type=_frames, metavar="FIRST:END", help="only these, without END; not with --source"
    )
    encode.add_argument(
        "--arg", type=_argument, action="append", default=[], metavar="KEY=VALUE", help="for the script, as vspipe's"
    )
    encode.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    split = encode.add_argument_group("split over GPUs and machines (needs Ray)")
    split.add_argument("--workers", type=int, metavar="N", help="encode in pieces, N at once, and join them")
    split.add_argument("--gpus-per-worker", type=float, metavar="F", help="0 to 1; default: 1 if there are GPUs")
    split.add_argument("--address", help="of a running Ray cluster, or auto; default: this machine alone")
    return parser


def _frames(text: str) -> range:
    first, _, end = text.partition(":")
    if not (first.isdecimal() and end.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST:END, two frame numbers such as 100:200")
    return range(int(first), int(end))


def _argument(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _doctor(arguments: argparse.Namespace) -> int:
    del arguments
    from vs_rafrvsr.doctor import examine

    return examine(Console())


def _models(arguments: argparse.Namespace) -> int:
    del arguments
    from vs_rafrvsr.models.listing import table

    Console().print(table())
    return 0


def _encode(arguments: argparse.Namespace) -> int:
    from vs_rafrvsr.encode import encode
    from vs_rafrvsr.encode.display import displayed
    from vs_rafrvsr.encode.parallel import encode_split

    _check_split(arguments)
    common = {
        "script": arguments.script,
        "out": arguments.out,
        "source": arguments.source,
        "ffmpeg_options": arguments.ffmpeg_options,
        "arguments": dict(arguments.arg),
        "overwrite": arguments.overwrite,
    }
    with displayed() as show:
        if arguments.workers is None:
            done = encode(**common, frames=arguments.frames, progress=show)
        else:
            gpus, address = arguments.gpus_per_worker, arguments.address
            done = encode_split(
                **common, workers=arguments.workers, gpus_per_worker=gpus, address=address, progress=show
            )
    speed = f"{done.fps:.2f} fps" if done.fps else "all of them made before"
    print(f"{arguments.out}: {done.frames} frames, {speed}", file=sys.stderr)
    return 0


def _check_split(arguments: argparse.Namespace) -> None:
    if arguments.workers is None and (arguments.gpus_per_worker, arguments.address) != (None, None):
        raise EncodeError("--gpus-per-worker and --address split an encode; say over how many with --workers N")
    if arguments.workers is not None and arguments.frames is not None:
        raise EncodeError("--frames and --workers do not go together; cut in the script, e.g. clip = clip[100:200]")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
