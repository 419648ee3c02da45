"""The command line as a user meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import vapoursynth as vs

from vs_rafrvsr import doctor, weights
from vs_rafrvsr.doctor import State
from vs_rafrvsr.models.registry import MODELS


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in another folder, so that the installed package runs; wide, so that no line is broken."""
    command = [sys.executable, "-m", "vs_rafrvsr", *words]
    env = {**os.environ, "COLUMNS": "250", **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_doctor_finds_this_installation_fine(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    for part in doctor.CHECKS:
        assert f"{part}:" in done.stdout
    assert "upscaled a frame" in done.stdout
    assert "broken" not in done.stdout


def test_doctor_sees_that_vapoursynth_was_not_configured(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "python -m vapoursynth config" in done.stdout


def test_doctor_sees_damaged_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for row in MODELS.values():
        (tmp_path / row.file).write_bytes(row.path.read_bytes()[:-1])
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    finding = doctor.check_weights()
    assert finding.state is State.BROKEN
    assert finding.remedy


def test_doctor_sees_a_plugin_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vapoursynth.get_plugin_dir", lambda: str(tmp_path))
    finding = doctor.check_plugin()
    assert finding.state is State.BROKEN
    assert "no plugin file" in finding.found


def test_doctor_says_why_a_plugin_did_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rafrvsr.abi3.so"
    file.write_bytes(b"no library")
    monkeypatch.setattr("vapoursynth.get_plugin_dir", lambda: str(tmp_path))
    monkeypatch.setattr("vapoursynth.core", CoreWithout("rafrvsr"))
    finding = doctor.check_plugin()
    assert finding.state is State.BROKEN
    assert f"{file} did not load: " in finding.found
    assert "--force-reinstall" in finding.remedy


class CoreWithout:
    """VapourSynth's core, but for a plugin."""

    def __init__(self, plugin: str) -> None:
        self._plugin, self._core = plugin, vs.core

    def __getattr__(self, name: str) -> object:
        if name == self._plugin:
            raise AttributeError(name)
        return getattr(self._core, name)


@pytest.mark.parametrize(("theirs", "state"), [(12, State.BROKEN), (13, State.FINE)])
def test_doctor_compares_cupy_s_cuda_with_pytorch_s(theirs: int, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = SimpleNamespace(runtimeGetVersion=lambda: theirs * 1000 + 20)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(__version__="14", cuda=SimpleNamespace(runtime=runtime)))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    finding = doctor.check_cupy()
    assert finding.state is state
    assert ("cupy-cuda12x" in finding.remedy and "[cuda13]" in finding.remedy) == (state is State.BROKEN)


def test_doctor_without_ffmpeg_is_limited_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert doctor.check_ffmpeg().state is State.LIMITED


def test_models_lists_every_row(tmp_path: Path) -> None:
    """In a terminal of the usual width too, where cells are broken but names and figures stay whole."""
    wide, usual = (run(tmp_path, "models", COLUMNS=columns) for columns in ("250", "80"))
    assert wide.returncode == usual.returncode == 0, wide.stderr
    for row in MODELS.values():
        header = weights.read_header(row.path)
        assert header.degradation.split(":")[0] in wide.stdout
        for done in (wide, usual):
            assert row.name in done.stdout
            assert f"{next(v for n, v in header.quality.items() if n.startswith('Vid4')):.4g}" in done.stdout
    assert "…" not in usual.stdout
    assert "validation" not in wide.stdout


def test_models_loads_no_torch(tmp_path: Path) -> None:
    code = "import sys; from vs_rafrvsr.models.listing import table; table(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_encode_says_what_it_wrote_and_refuses_to_write_it_again(tmp_path: Path) -> None:
    script = "from vapoursynth import core\ncore.std.BlankClip(width=int(side), height=48, length=5).set_output()"
    (tmp_path / "script.vpy").write_text(script)
    words = ("encode", "script.vpy", "out.mkv", "--arg", "side=64", "--frames", "1:4")
    done = run(tmp_path, *words, "--", "-c:v", "ffv1")
    assert done.returncode == 0, done.stderr
    assert "out.mkv: 3 frames, " in done.stderr
    again = run(tmp_path, *words)
    assert again.returncode == 1
    assert again.stderr.count("error:") == 1
    assert "--overwrite" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "required"),
        (("nonesuch",), "invalid choice"),
        (("encode",), "SCRIPT.vpy"),
        (("encode", "a", "b", "--frames", "10"), "'10' is not FIRST:END"),
        (("encode", "a", "b", "--frames", "-3:7"), "expected one argument"),
        (("encode", "a", "b", "--arg", "side"), "'side' is not KEY=VALUE"),
    ],
)
def test_wrong_words_show_the_usage(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert said in done.stderr


def test_split_encodes_from_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    script = "from vapoursynth import core\ncore.std.BlankClip(width=64, height=48, length=5).set_output()"
    (tmp_path / "script.vpy").write_text(script)
    done = run(tmp_path, "encode", "script.vpy", "out.mkv", "--workers", "2", "--", "-c:v", "ffv1")
    assert done.returncode == 0, done.stderr
    assert "out.mkv: 5 frames, " in done.stderr
    for words in (("--address", "auto"), ("--workers", "2", "--frames", "0:3")):
        refused = run(tmp_path, "encode", "script.vpy", "again.mkv", *words)
        assert refused.returncode == 1
        assert "--workers" in refused.stderr
