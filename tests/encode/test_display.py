"""The progress on stderr: rows on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import sys

import pytest

from vs_rafrvsr.encode import Progress, display


def test_on_a_terminal_there_is_a_row_for_all_and_one_for_each_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes Rich take it for a terminal
    monkeypatch.setenv("COLUMNS", "100")
    with display.displayed() as show:
        show(Progress(10, 40, 5.0, {"a 0:20": Progress(10, 20, 5.0)}))
        show(Progress(30, 40, 6.0, {"b 20:40": Progress(10, 20, 7.0)}))
    last = capsys.readouterr().err.split("\x1b[2K")[-1]
    for shown in ("30/40", "6.00 fps", "b 20:40", "10/20", "7.00 fps"):
        assert shown in last
    assert "a 0:20" not in last, "a worker that is done has no row"


def test_what_is_logged_appears_above_the_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        with display.displayed() as show:
            show(Progress(10, 40, 5.0))
            logging.getLogger("vs_rafrvsr").warning("slow")
            assert handler.stream is sys.stderr
    finally:
        logging.getLogger().removeHandler(handler)
    assert handler.stream is sys.stderr
    assert "\x1b[2Kslow\n" in capsys.readouterr().err, "the row is erased before, and drawn anew after it"


def test_elsewhere_a_line_is_printed_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with display.displayed() as show:
        for now[0], frames in ((1, 10), (31, 20), (59, 25), (61, 30)):
            show(Progress(frames, 40, 0.5))
    assert capsys.readouterr().err.splitlines() == [
        "20 of 40 frames, 0.50 fps, 40 s left",
        "30 of 40 frames, 0.50 fps, 20 s left",
    ]
