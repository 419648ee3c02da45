"""vspipe into ffmpeg: two child processes, their messages, their exit statuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from vs_rafrvsr.encode.clip import Clip
from vs_rafrvsr.encode.messages import COPYING, EVERYTHING, Messages
from vs_rafrvsr.errors import EncodeError

PIPE_BYTES = 2**20
"""Of the pipe from vspipe to ffmpeg: as much as Linux gives to anybody. Through the usual 64 KiB, a frame of 3840x2160
goes in two hundred pieces, and both programs wait for each other as often."""

KEEP_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""For glibc in ffmpeg: what a frame took serves the next one. Else the kernel hands out every frame's memory anew."""

SLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}
"""For PyTorch on the CPU in vspipe: threads that wait spin for long, on cores that the encoder needs."""

PIPE_CLOSED = (-13, 243)  # vspipe's statuses when its reader went away; 243 through the command that starts it


def find_vspipe() -> str:
    """The vspipe inside the package vapoursynth, else one on PATH.

    The package also puts a command vspipe on PATH, which only starts that program: whoever kills the command leaves the
    program behind, and interrupted it says that all went well.
    """
    spec = find_spec("vapoursynth")
    folders = spec.submodule_search_locations if spec is not None else None
    inside = [Path(folder) / ("vspipe.exe" if sys.platform == "win32" else "vspipe") for folder in folders or ()]
    found = next((str(path) for path in inside if path.exists()), shutil.which("vspipe"))
    if found is None:
        raise EncodeError("vspipe was not found; install VapourSynth: pip install vapoursynth")
    return found


def find_ffmpeg() -> str:
    """ffmpeg on PATH, else the one that the package imageio-ffmpeg brings."""
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        import imageio_ffmpeg
    except ImportError:
        message = "ffmpeg was not found on PATH; install it (apt install ffmpeg), or: pip install imageio-ffmpeg"
        raise EncodeError(message) from None
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def transcode(
    vspipe: Sequence[str], ffmpeg: Callable[[Clip], Sequence[str]], on_frames: Callable[[Clip, int, float], None]
) -> tuple[Clip, int, float]:
    """Run both commands; return the clip, the frames that ffmpeg wrote, and the seconds since the script was ready.

    Args:
        vspipe: a command that runs piped.py, without the file to write.
        ffmpeg: the command for a clip; it reads standard input and reports to `-progress pipe:1`.
        on_frames: called with the frames written so far and the seconds since the script was ready.

    Raises:
        EncodeError: a command failed; the message holds the end of what it said.
    """
    said = Messages("vspipe")
    read, write = wide_pipe()
    with os.fdopen(read, "rb") as pixels, os.fdopen(write, "wb") as video, _running_vspipe(vspipe, video) as source:
        video.close()  # each program holds the only copy of its end, and learns when the other one goes away
        clip = _await_clip(source, said)
        command = ffmpeg(clip)
        start = time.monotonic()

        def tell(frames: int) -> None:
            said.pass_on()
            on_frames(clip, frames, time.monotonic() - start)

        with (
            _running(command, stdin=pixels, env=KEEP_MEMORY | os.environ) as sink,
            _collecting(source, source.stdout, said),
        ):
            pixels.close()
            complaints = Messages("ffmpeg")
            frames = _follow(sink, complaints, tell)
            source.wait()
        failed = [] if source.returncode in (0, *PIPE_CLOSED) else [said.failure(source.returncode)]
        _raise_any([*failed, *_ffmpeg_failed(sink.returncode, complaints)])
        said.pass_on(0)
        complaints.pass_on(0)
        return clip, frames, time.monotonic() - start


def wide_pipe() -> tuple[int, int]:
    """The two ends of a pipe of PIPE_BYTES, where that can be had."""
    read, write = os.pipe()
    with suppress(ImportError, AttributeError, OSError):  # Linux alone can, and not for a user who has many such pipes
        import fcntl

        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return read, write


def describe(vspipe: Sequence[str]) -> Clip:
    """What a command that runs piped.py says of its clip, without a frame encoded.

    Raises:
        EncodeError: as transcode.
    """
    with Path(os.devnull).open("wb") as nothing, _running_vspipe([*vspipe, "--info"], nothing) as source:
        return _await_clip(source, Messages("vspipe"))


def run_ffmpeg(command: Sequence[str], *, quiet: bool = False) -> int:
    """Run ffmpeg alone to its end; the frames that it wrote.

    Args:
        command: the words.
        quiet: its warnings are said elsewhere.

    Raises:
        EncodeError: it failed.
    """
    complaints = Messages("ffmpeg", EVERYTHING if quiet else COPYING)
    with _running(command, stdin=subprocess.DEVNULL) as process:
        frames = _follow(process, complaints, lambda _: None)
        _raise_any(_ffmpeg_failed(process.returncode, complaints))
        complaints.pass_on(0)
        return frames


def pixel_formats(encoder: str) -> list[str]:
    """The pixel formats that ffmpeg's encoder takes; none where ffmpeg does not tell."""
    command = [find_ffmpeg(), "-hide_banner", "-nostdin", "-h", f"encoder={encoder}"]
    told = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout
    _, _, formats = told.partition("Supported pixel formats:")
    return formats.partition("\n")[0].split()


def _running_vspipe(command: Sequence[str], video: IO[bytes]) -> AbstractContextManager[subprocess.Popen[str]]:
    """A vspipe that runs piped.py, which takes the end of its standard input for ours. Then ffmpeg ends as well.

    Pixels have a file of their own: what the script or a child of it prints is a message like those on stderr.
    """
    number = video.fileno()
    out, words = subprocess.STDOUT, [*command, f"/dev/fd/{number}"]
    return _running(words, stdin=subprocess.PIPE, stderr=out, pass_fds=[number], env=SLEEP | os.environ)


@contextmanager
def _running(
    command: Sequence[str],
    stdin: int | IO[bytes],
    stderr: int = subprocess.PIPE,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A child that does not outlive the block: on any error, Ctrl-C included, it is killed and waited for."""
    with subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, pass_fds=pass_fds,
        env=env, text=True, encoding="utf-8", errors="replace",
    ) as process:  # fmt: skip
        try:
            yield process
        except BaseException:
            process.kill()
            raise


@contextmanager
def _collecting(process: subprocess.Popen[str], stream: IO[str] | None, said: Messages) -> Iterator[None]:
    """Read a child's messages meanwhile, so that it never blocks on them. On an error it is killed, or reading would
    last until it ends.
    """

    def read() -> None:
        for line in stream or ():
            said.hear(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield
    except BaseException:
        process.kill()
        raise
    finally:
        reader.join()


def _await_clip(vspipe: subprocess.Popen[str], said: Messages) -> Clip:
    """The clip that piped.py reports.

    Raises:
        EncodeError: vspipe ended without a report.
    """
    assert vspipe.stdout is not None
    for line in vspipe.stdout:
        clip = Clip.from_line(line)
        if clip is not None:
            said.pass_on(0)
            return clip
        said.hear(line)
    raise EncodeError(said.failure(vspipe.wait()))


def _follow(process: subprocess.Popen[str], complaints: Messages, on_frames: Callable[[int], None]) -> int:
    """Wait for an ffmpeg that reports its progress, and hear it; return its last frame count."""
    assert process.stdout is not None
    frames = 0
    with _collecting(process, process.stderr, complaints):
        for line in process.stdout:
            key, _, value = line.strip().partition("=")
            if key == "frame":
                frames = int(value)
                complaints.pass_on()
                on_frames(frames)
        process.wait()
    return frames


def _ffmpeg_failed(status: int, complaints: Messages) -> list[str]:
    """Its message, if it failed; ffmpeg 5 ends with 0 when the disk is full only at the file's last bytes."""
    failed = status != 0 or complaints.include("Error writing trailer")
    return [complaints.failure(status)] if failed else []


def _raise_any(messages: Sequence[str]) -> None:
    if messages:
        raise EncodeError("\n".join(messages))
