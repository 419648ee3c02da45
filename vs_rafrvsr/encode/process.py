"""vspipe into ffmpeg: two child processes, their messages, their exit statuses."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from vs_rafrvsr.encode.clip import Clip
from vs_rafrvsr.errors import EncodeError

MESSAGE_LINES = 30
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
        vspipe: a command that runs piped.py and writes to its standard output.
        ffmpeg: the command for a clip; it reads standard input and reports to `-progress pipe:1`.
        on_frames: called with the frames written so far and the seconds since the script was ready.

    Raises:
        EncodeError: a command failed; the message holds the end of what it said.
    """
    said = deque[str](maxlen=MESSAGE_LINES)
    with _running_vspipe(vspipe) as source:
        assert source.stdout is not None
        clip = _await_clip(source, said)
        start = time.monotonic()
        with _running(ffmpeg(clip), stdin=source.stdout) as sink, _collecting(source, said):
            source.stdout.close()  # ffmpeg holds the only copy now, so vspipe learns when ffmpeg goes away
            frames, complaints = _follow(sink, lambda done: on_frames(clip, done, time.monotonic() - start))
            source.wait()
        failed = [] if source.returncode in (0, *PIPE_CLOSED) else [_message("vspipe", source.returncode, said)]
        _raise_any([*failed, *_ffmpeg_failed(sink.returncode, complaints)])
        return clip, frames, time.monotonic() - start


def describe(vspipe: Sequence[str]) -> Clip:
    """What a command that runs piped.py says of its clip, without a frame encoded.

    Raises:
        EncodeError: as transcode.
    """
    with _running_vspipe([*vspipe, "--info"]) as source:
        return _await_clip(source, deque[str](maxlen=MESSAGE_LINES))


def run_ffmpeg(command: Sequence[str]) -> int:
    """Run ffmpeg alone to its end; the number of video frames that it wrote.

    Raises:
        EncodeError: it failed.
    """
    with _running(command, stdin=subprocess.DEVNULL) as process:
        frames, complaints = _follow(process, lambda _: None)
        _raise_any(_ffmpeg_failed(process.returncode, complaints))
        return frames


def _running_vspipe(command: Sequence[str]) -> AbstractContextManager[subprocess.Popen[str]]:
    """A vspipe that runs piped.py, which takes the end of its standard input for ours. Then ffmpeg ends as well."""
    return _running(command, stdin=subprocess.PIPE)


@contextmanager
def _running(command: Sequence[str], stdin: int | IO[str]) -> Iterator[subprocess.Popen[str]]:
    """A child that does not outlive the block: on any error, Ctrl-C included, it is killed and waited for."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=stdin, stdout=pipe, stderr=pipe, text=True, encoding="utf-8", errors="replace"
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


@contextmanager
def _collecting(process: subprocess.Popen[str], lines: deque[str]) -> Iterator[None]:
    """Read a child's messages meanwhile, so that it never blocks on them. On an error it is killed, or reading would
    last until it ends.
    """
    assert process.stderr is not None
    reader = threading.Thread(target=lines.extend, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        yield
    except BaseException:
        process.kill()
        raise
    finally:
        reader.join()


def _await_clip(vspipe: subprocess.Popen[str], said: deque[str]) -> Clip:
    """The clip that piped.py reports.

    Raises:
        EncodeError: vspipe ended without a report.
    """
    assert vspipe.stderr is not None
    for line in vspipe.stderr:
        clip = Clip.from_line(line)
        if clip is not None:
            return clip
        said.append(line)
    raise EncodeError(_message("vspipe", vspipe.wait(), said))


def _follow(process: subprocess.Popen[str], on_frames: Callable[[int], None]) -> tuple[int, deque[str]]:
    """Wait for an ffmpeg that reports its progress; return its last frame count and the end of its messages."""
    assert process.stdout is not None
    complaints = deque[str](maxlen=MESSAGE_LINES)
    frames = 0
    with _collecting(process, complaints):
        for line in process.stdout:
            key, _, value = line.strip().partition("=")
            if key == "frame":
                frames = int(value)
                on_frames(frames)
        process.wait()
    return frames, complaints


def _ffmpeg_failed(status: int, complaints: deque[str]) -> list[str]:
    """Its message, if it failed; ffmpeg 5 ends with 0 when the disk is full only at the file's last bytes."""
    failed = status != 0 or any("Error writing trailer" in line for line in complaints)
    return [_message("ffmpeg", status, complaints)] if failed else []


def _raise_any(messages: Sequence[str]) -> None:
    if messages:
        raise EncodeError("\n".join(messages))


def _message(name: str, status: int, said: deque[str]) -> str:
    cause = f"exit status {status}" if status >= 0 else f"signal {-status}"
    text = "".join(said).strip() or "it gave no reason"
    return f"{name} failed ({cause}):\n{text}"
