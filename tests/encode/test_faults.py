"""What goes wrong is said once and clearly, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.encode.media import FFV1, X264, heed, left_over, programs_of, script
from vs_rafrvsr.encode import Progress, encode
from vs_rafrvsr.encode.process import find_vspipe
from vs_rafrvsr.errors import EncodeError

CLIP = "core.std.BlankClip(width=64, height=48, format=vs.YUV420P8, length=24)"
GOOD = f"{CLIP}.set_output()"
FAILS_LATER = f"""
def fail(n, f):
    if n == 5:
        raise RuntimeError("frame five is bad")
    return f
core.std.ModifyFrame({CLIP}, {CLIP}, fail).set_output()
"""
SLOW = f"""
import time
core.std.ModifyFrame({CLIP}, {CLIP}, lambda n, f: time.sleep(2) or f).set_output()
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (FAILS_LATER, "frame five is bad"),
        ("this is no Python", "SyntaxError"),
        ("raise ValueError('no such film')", "no such film"),
        (CLIP, "sets no output 0"),
        ("core.std.BlankAudio().set_output()", "is not video"),
        (f"a = {CLIP}\ncore.std.Splice([a, a.resize.Point(32, 32)], mismatch=True).set_output()", "size"),
        (f"{CLIP}.std.RemoveFrameProps().std.AssumeFPS(fpsnum=0).set_output()", "AssumeFPS"),
        (
            f"{CLIP}.std.SetFrameProps(_SARNum=[4, 3], _SARDen=1).set_output()",
            r"frame 0 has _SARNum=\[4, 3\], .* whole",
        ),
        (f"{CLIP}.std.SetFrameProps(_Matrix=1.0).set_output()", "frame 0 has _Matrix=1.0, .*RemoveFrameProps"),
        (f"{CLIP}.std.SetFrameProps(_DurationNum=-1).set_output()", "frame 0 has _DurationNum=-1, .* 0 or more"),
        (
            f"c = {CLIP}\n(c[:9] + c[9:].std.SetFrameProps(_DurationNum=1.0)).set_output()",
            "frame 9 has _DurationNum=1.0",
        ),
        (
            f"c = {CLIP}\n(c[:9] + c[9:].std.SetFrameProps(_DurationDen=[1, 2])).set_output()",
            r"frame 9 has .*=\[1, 2\]",
        ),
    ],
)
def test_a_script_that_fails(body: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(EncodeError, match=message):
        encode(script(tmp_path, body), tmp_path / "out.mkv", ffmpeg_options=FFV1)
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-c:v", "nonesuch"), "(?s)ffmpeg failed.*nonesuch"),
        (("-c:v", "libx264", "-preset", "nonesuch"), "ffmpeg failed"),
        ((*FFV1, "-frames:v", "3"), "wrote 3 of"),
        ((*FFV1, "-vf", "fps=60"), r"wrote \d+ of 2 frames; .* that in the script"),
        ((*FFV1, "-vf", "mpdecimate"), "wrote 1 of 2 frames"),
        ((*FFV1, "-filter_complex", "hflip"), "-filter_complex .* use -vf"),
    ],
)
def test_ffmpeg_options_that_fail(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(EncodeError, match=message):
        encode(script(tmp_path, GOOD), tmp_path / "out.mkv", ffmpeg_options=options)
    assert left_over(tmp_path) == []


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = script(tmp_path, GOOD)
    with pytest.raises(EncodeError, match="does not exist"):
        encode(tmp_path / "absent.vpy", tmp_path / "out.mkv")
    with pytest.raises(EncodeError, match="does not exist"):
        encode(path, tmp_path / "out.mkv", source=tmp_path / "absent.mkv")
    with pytest.raises(EncodeError, match="not a readable video"):
        encode(path, tmp_path / "out.mkv", source=path, ffmpeg_options=FFV1)
    with pytest.raises(EncodeError, match="cannot be written"):
        encode(path, tmp_path / "no such folder" / "out.mkv")
    with pytest.raises(EncodeError, match="is a folder"):
        encode(path, tmp_path, overwrite=True)
    with pytest.raises(EncodeError, match="is the script itself"):
        encode(path, path, overwrite=True)
    with pytest.raises(EncodeError, match="rising range"):
        encode(path, tmp_path / "out.mkv", frames=range(5, 5))
    with pytest.raises(EncodeError, match="range of frames"):
        encode(path, tmp_path / "out.mkv", frames=range(5), source=path)
    with pytest.raises(
        EncodeError, match=r"frames 3 to 1002 are asked for; the clip has frames 0 to [0-9]+: ask for some"
    ):
        encode(script(tmp_path, GOOD), tmp_path / "out.mkv", frames=range(3, 1003))
    for name in ("x%d.png", "x.JPG"):
        with pytest.raises(EncodeError, match="is a picture"):
            encode(path, tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["script.vpy"]


def test_an_existing_output_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path, out = script(tmp_path, GOOD), tmp_path / "out.mkv"
    out.write_text("precious")
    with pytest.raises(EncodeError, match="--overwrite"):
        encode(path, out)
    failing = script(tmp_path, FAILS_LATER, "failing.vpy")
    with pytest.raises(EncodeError):
        encode(failing, out, overwrite=True, ffmpeg_options=FFV1)
    assert out.read_text() == "precious"
    encode(path, out, overwrite=True, ffmpeg_options=FFV1)
    assert out.stat().st_size > 1000


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(EncodeError, match=r"a device or a pipe; name a file .* -f null"):
        encode(script(tmp_path, GOOD), pipe, overwrite=True, ffmpeg_options=FFV1)
    assert pipe.is_fifo()


def test_an_output_behind_a_link_is_written_there(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "out.mkv"
    link.symlink_to(tmp_path / "elsewhere" / "film.mkv")
    for _ in range(2):
        encode(script(tmp_path, GOOD), link, overwrite=True, ffmpeg_options=FFV1)
        assert link.is_symlink()
        assert left_over(tmp_path / "elsewhere") == []
        assert (tmp_path / "elsewhere" / "film.mkv").stat().st_size > 1000


def test_a_run_can_be_timed_without_a_file(tmp_path: Path) -> None:
    assert encode(script(tmp_path, GOOD), tmp_path / "out.nut", ffmpeg_options=("-f", "null")).frames == 24


def test_other_outputs_than_0_are_not_lost_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    body = f"{GOOD}\ncore.std.BlankAudio().set_output(1)"
    encode(script(tmp_path, body), tmp_path / "out.mkv", ffmpeg_options=FFV1)
    assert "outputs only 0 is encoded, not 1" in caplog.text


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(EncodeError, match="apt install ffmpeg"):
        encode(script(tmp_path, GOOD), tmp_path / "out.mkv")


def test_progress_rises_to_the_end(tmp_path: Path) -> None:
    seen: list[Progress] = []
    encode(script(tmp_path, GOOD), tmp_path / "out.mkv", ffmpeg_options=FFV1, progress=seen.append)
    assert [p.frames for p in seen] == sorted(p.frames for p in seen)
    assert (seen[-1].frames, seen[-1].total) == (24, 24)
    assert seen[-1].fps > 0


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_both_programs_and_leaves_no_file(sent: signal.Signals, tmp_path: Path) -> None:
    path, out = script(tmp_path, SLOW), tmp_path / "out.mkv"
    command = [sys.executable, "-m", "vs_rafrvsr", "encode", str(path), str(out), "--", *X264]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, preexec_fn=heed)
    children = programs_of(process)
    time.sleep(0.3)
    os.kill(process.pid, sent)
    process.communicate(timeout=30)  # long before the script is over
    assert process.returncode == 128 + sent
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert left_over(tmp_path) == []


def test_an_encode_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    path, out = script(tmp_path, SLOW.replace("length=24", "length=2")), tmp_path / "out.mkv"
    command = ["nohup", sys.executable, "-m", "vs_rafrvsr", "encode", str(path), str(out), "--", *X264]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    programs_of(process)
    os.kill(process.pid, signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, out.exists()) == (0, True), said


def test_names_that_look_like_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-y.mkv", "http:x.mkv", "50% %d.mkv", "Ünï cödé.mkv"):
        encode(script(tmp_path, GOOD, "a script, 1=2.vpy"), Path(name), ffmpeg_options=FFV1)
        assert (tmp_path / name).exists()


def test_the_script_sees_its_folder_and_arguments(tmp_path: Path) -> None:
    (tmp_path / "size.txt").write_text("32")
    body = f"""
from pathlib import Path
assert __name__ == "__vapoursynth__" and Path(__file__).name == "script.vpy"
{CLIP}.resize.Point(int(width), int(Path("size.txt").read_text())).set_output()
"""
    arguments = {"width": "48"}
    result = encode(script(tmp_path, body), tmp_path / "out.mkv", ffmpeg_options=FFV1, arguments=arguments)
    assert (result.clip.width, result.clip.height) == (48, 32)


def test_the_script_runs_as_under_vspipe(tmp_path: Path) -> None:
    """In the folder of the link by which it is named, and with its own compiler flags and names only."""
    body = f"""
import dataclasses, sys
from pathlib import Path
assert Path.cwd() == Path(__file__).parent and Path.cwd().name == "links"
assert "__vapoursynth__" not in sys.modules
assert sorted(name for name in globals() if name.startswith("_")) == ["__builtins__", "__file__", "__name__"]
@dataclasses.dataclass
class Size:
    width: int
assert Size.__annotations__ == {{"width": int}}
{GOOD}
"""
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link.vpy"
    link.symlink_to(script(tmp_path, body))
    encode(link, tmp_path / "out.mkv", ffmpeg_options=FFV1)
    subprocess.run([find_vspipe(), str(link), "--"], check=True)


def test_a_disk_that_is_full_at_the_last_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "ffmpeg"
    fake.write_text(f'#!/bin/bash\nexec "{shutil.which("ffmpeg")}" "${{@:1:$#-1}}" -f matroska /dev/full\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(EncodeError, match="No space left on device"):
        encode(script(tmp_path, GOOD), tmp_path / "out.mkv", ffmpeg_options=FFV1)
    assert left_over(tmp_path) == []
