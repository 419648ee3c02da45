"""The pipe between vspipe and ffmpeg."""

from __future__ import annotations

import fcntl
import os
import sys

import pytest

from vs_rafrvsr.encode import process


def passes(ends: tuple[int, int]) -> bool:
    read, write = ends
    with os.fdopen(read, "rb") as source, os.fdopen(write, "wb") as sink:
        sink.write(b"frame")
        sink.close()
        return source.read() == b"frame"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone widens pipes")
def test_the_pipe_is_wide() -> None:
    ends = process.wide_pipe()
    assert fcntl.fcntl(ends[0], fcntl.F_GETPIPE_SZ) == process.PIPE_BYTES
    assert passes(ends)


def test_where_no_wide_pipe_is_to_be_had_a_usual_one_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(fcntl, "fcntl", refused)
    assert passes(process.wide_pipe())
