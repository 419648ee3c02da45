"""What a script prints is a message, and messages of all programs are said once, on stderr or with the error."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.encode.media import FFV1, X264, pixels, script
from vs_rafrvsr.encode import encode
from vs_rafrvsr.encode.messages import COPYING, Messages
from vs_rafrvsr.encode.options import warn_of_conversion
from vs_rafrvsr.encode.render import Job, read_clip
from vs_rafrvsr.errors import EncodeError

CLIP = "core.std.BlankClip(width=64, height=48, format=vs.YUV420P8, length=6, color=[100, 110, 120])"
GOOD = f"{CLIP}.set_output()"


def command(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The encode that a user types."""
    words = [sys.executable, "-m", "vs_rafrvsr", "encode", str(path), str(path.with_name("out.mkv")), *options]
    return subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_nothing_that_a_script_prints_gets_into_the_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    body = f"""
import os, subprocess, sys
print("printed")
sys.stdout.write("no end of line,")
os.write(1, b"raw\\n")
subprocess.run(["echo", "of a child"])
os.system("echo of a shell")
def loud(n, f):
    print("at frame", n, flush=True)
    os.write(1, b"R" * 200 + b"\\n")
    return f
core.std.ModifyFrame({CLIP}, {CLIP}, loud).set_output()
"""
    encode(script(tmp_path, body), tmp_path / "out.mkv", ffmpeg_options=FFV1)
    one = bytes([100]) * (64 * 48) + bytes([110]) * (32 * 24) + bytes([120]) * (32 * 24)
    assert pixels(tmp_path / "out.mkv") == one * 6
    for said in ("vspipe: printed\n", "no end of line,", "raw\n", "of a child\n", "of a shell\n", "at frame 5\n"):
        assert caplog.text.count(said) == 1, said


def test_warnings_reach_stderr_once_and_what_says_that_all_is_well_does_not(tmp_path: Path) -> None:
    body = f"""
import sys
print("by the script", file=sys.stderr)
core.log_message(vs.MESSAGE_TYPE_WARNING, "by VapourSynth")
core.rafrvsr.Upscale({CLIP}, device="cpu").set_output()
"""
    done = command(script(tmp_path, body), "--", "-c:v", "libx265", "-cutoff", "9")
    assert done.returncode == 0, done.stderr
    for said in ("by the script", "by VapourSynth", "the clip has no _Matrix", "Codec AVOption cutoff"):
        assert done.stderr.count(said) == 1, said
    assert done.stderr.splitlines()[-1].startswith(str(tmp_path / "out.mkv"))
    for silent in ("[info]", "Output 6 frames", "encoded 6 frames", "0x"):
        assert silent not in done.stderr


def test_a_plain_encode_says_nothing(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = script(tmp_path, f"core.std.Loop({CLIP}, 8).set_output()")
    for options in ((*X264, "-c:a", "aac"), FFV1):
        encode(path, tmp_path / "out.mkv", source=source, ffmpeg_options=options, overwrite=True)
    assert caplog.text == ""


def test_what_made_a_script_fail_is_said_once(tmp_path: Path) -> None:
    done = command(script(tmp_path, f"print('before')\n{CLIP}.no_such_plugin.set_output()"))
    assert done.returncode == 1
    assert done.stderr.count("before\n") == 1
    assert done.stderr.count("vapoursynth.Error") + done.stderr.count("AttributeError") == 1


def test_last_words_are_the_error_and_earlier_ones_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    said = Messages("ffmpeg", COPYING)
    said.hear("[mp4 @ 0x5596ce9c2b80] odd\n")
    said.hear("[out#0/mp4 @ 0x5596] Codec AVOption crf has not been used\n")
    said.hear("x265 [info]: HEVC encoder\n")
    now[0] = 3.0
    said.hear("it breaks\n")
    assert [record.message for record in caplog.records] == ["ffmpeg: [mp4] odd"]
    assert said.failure(1) == "ffmpeg failed (exit status 1):\nit breaks"
    said.pass_on(0)
    assert said.failure(-9).startswith("ffmpeg failed (signal 9):\n[mp4"), (
        "nothing is left to say, so all is said again"
    )


@pytest.mark.parametrize("line", ["rafrvsr-clip {bad json", "rafrvsr-clip", "rafrvsr-clip-2"])
def test_a_line_that_looks_like_our_report(line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encode(script(tmp_path, f"print({line!r})\n{GOOD}"), tmp_path / "out.mkv", ffmpeg_options=FFV1)
    assert line in caplog.text


def test_a_script_finds_nothing_in_its_standard_input(tmp_path: Path) -> None:
    body = f"import sys, subprocess\nassert sys.stdin.read() == ''\nsubprocess.run(['cat'], check=True)\n{GOOD}"
    encode(script(tmp_path, body), tmp_path / "out.mkv", ffmpeg_options=FFV1)
    with pytest.raises(EncodeError, match="EOF when reading"):
        encode(script(tmp_path, f"input('how many? ')\n{GOOD}"), tmp_path / "out2.mkv", ffmpeg_options=FFV1)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (f"{CLIP}.set_output(0, alpha=core.std.BlankClip({CLIP}, format=vs.GRAY8))", "alpha of script.vpy's output 0"),
        (f"{CLIP}.std.SetFieldBased(2).set_output()", "interlaced"),
        (f"{CLIP}.std.SetFieldBased(0).set_output()", ""),
    ],
)
def test_what_is_lost_is_said(output: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encode(script(tmp_path, output), tmp_path / "out.mkv", ffmpeg_options=FFV1)
    assert said in caplog.text
    assert len(caplog.records) == bool(said)


@pytest.mark.parametrize(
    ("pixel_format", "options", "said"),
    [
        (
            "YUV420P16",
            (),
            "libx265 does not take the clip's yuv420p16le: .* -pix_fmt yuv420p, yuv420p10le, yuv420p12le$",
        ),
        ("YUV422PS", X264, "libx264 does not take the clip's yuv422p16le: .* -pix_fmt yuv422p, yuv422p10le$"),
        ("YUV411P8", X264, "libx264 does not take the clip's yuv411p: .* -pix_fmt yuv420p, .*yuv444p10le"),
        ("YUV420P16", FFV1, None),
        ("YUV420P12", (), None),
        ("YUV420P16", ("-pix_fmt", "yuv420p10le"), None),
        ("YUV420P16", ("-vf", "format=yuv420p10"), None),
    ],
)
def test_a_conversion_that_nobody_asked_for_is_said(
    pixel_format: str, options: tuple[str, ...], said: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = f"core.std.BlankClip(width=320, height=240, length=2, format=vs.{pixel_format})"
    with caplog.at_level(logging.WARNING, "vs_rafrvsr.encode.options"):
        encode(script(tmp_path, f"{clip}.set_output()"), tmp_path / "out.mkv", ffmpeg_options=options)
    found = [record.message for record in caplog.records if record.name == "vs_rafrvsr.encode.options"]
    if said is None:
        assert found == []
    else:
        (message,) = found
        assert re.search(said, message)


def test_another_layout_of_the_same_samples_is_no_conversion(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As hardware encoders want it."""
    clip = read_clip(Job(script=script(tmp_path, f"{CLIP}.set_output()"), arguments={}, ffmpeg_options=()))
    for pixel_format in ("yuv420p", "yuv420p10le", "yuv422p"):
        deep = replace(clip, pixel_format=pixel_format)
        warn_of_conversion(deep, ("-c:v", "hevc_nvenc"), lambda _: ["nv12", "p010le"])
    (record,) = caplog.records
    assert record.message.startswith("hevc_nvenc does not take the clip's yuv422p: ")
