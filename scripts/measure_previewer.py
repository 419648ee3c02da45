#!/usr/bin/env python
"""Drive a previewer as a user does: step, seek, reload the script, close the window; and what grows meanwhile.

    python scripts/measure_previewer.py --vsview VENV/bin/vsview --script samples/preview.vpy --shots DIR --json FILE

Needs vsview in an environment that has this project too, and Debian's xvfb, openbox, xdotool, imagemagick and ffmpeg.
A frame counts as shown when vsview's log says that the frames asked for are rendered and the window has not changed for
half a second; one that was shown before must look the same, bit for bit. The window manager's Alt+F4 closes the window;
with --busy after one more click on the timeline, before its frame is there.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
from measuring import add_result, run_script

FILM = (
    "ffmpeg -v error -y -f lavfi -i testsrc2=160x96:24 -f lavfi -i sine -vf drawtext=text='%{n}':fontsize=40:x=50:y=40:"
    "fontcolor=white:box=1:boxcolor=black -t 10 -pix_fmt yuv420p -colorspace bt709 -color_primaries bt709 -color_trc 1"
)
SCREEN = ":77"
LEFT, RIGHT, HEIGHT = 504, 1198, 644  # where the timeline is in vsview's window, which has 1200x675
STEPS = ["Right"] * 30 + ["Left"] * 20
SEEKS = [*zip((0.9, 0.1, 0.5, 0.52, 0.3, 0.98, 0.02, 0.7)), (0.4, 0.8, 0.2, 0.6)]  # the last four without waiting
LIMIT = 120  # seconds for anything


def output(*words: str) -> bytes:
    """What a command prints."""
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, timeout=LIMIT).stdout


def wait(done: Callable[[], bool], what: str) -> float:
    """Wait until it is done; the seconds that took."""
    start = time.monotonic()
    while not done():
        if time.monotonic() - start > LIMIT:
            raise TimeoutError(f"no {what} after {LIMIT} seconds")
        time.sleep(0.02)
    return time.monotonic() - start


class Previewer:
    """vsview with a script, its window and its log."""

    def __init__(self, vsview: str, script: Path, folder: Path) -> None:
        self.folder, self.again, self.changed, self.seen = folder, 0, 0, dict[str, bytes]()
        command = [vsview, "-v", "--no-settings", "--arg", f"source={folder / 'film.mkv'}", str(script)]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def said(self, pattern: str) -> list[str]:
        """Where the log has the pattern so far."""
        return re.findall(pattern, (self.folder / "log").read_text())

    def do(self, sign: str, *words: str) -> None:
        """Let xdotool do something, and wait for the sign of it in the log."""
        before = len(self.said(sign))
        output("xdotool", *words)
        wait(lambda: len(self.said(sign)) > before, f"'{sign}'")

    def click(self, place: float) -> None:
        """Click on the timeline and take the pointer away."""
        at = ("--window", self.window, str(round(LEFT + place * (RIGHT - LEFT))), str(HEIGHT))
        self.do("Timeline clicked", "mousemove", *at, "click", "1", "sleep", "0.1", "mousemove", "0", "0")

    def rendered(self) -> str:
        """The frame that is there, if none is on its way."""
        return (self.said(r"Frame requested: \d+|Frame (\d+) rendered|Timeline clicked") or [""])[-1]

    def shown(self, name: str, tab: str = "") -> int:
        """Wait until the frame asked for stands in the window, and keep a screenshot; the frame's number."""
        last, since = b"", time.monotonic()
        while time.monotonic() - since < 0.5:
            wait(lambda: bool(self.rendered()), "frame")
            if (now := output("import", "-window", self.window, "-crop", "1200x545+0+55", "rgb:-")) != last:
                last, since = now, time.monotonic()
        self.again += tab + (number := self.rendered()) in self.seen
        self.changed += self.seen.setdefault(tab + number, last) != last
        output("import", "-window", self.window, str(self.folder / f"{name}-{number}.png"))
        return int(number)

    def use(self, reloads: int, tabs: int, busy: bool) -> dict[str, object]:
        """Load, step, seek, flip, reload and close; what was seen."""
        self.window = output("xdotool", "search", "--sync", "--onlyvisible", "--name", "VS View").decode().split()[0]
        output("xdotool", "windowactivate", "--sync", self.window)
        path = [self.shown("start")]
        for key in STEPS:
            self.do("Frame requested", "key", key)
            path.append(self.shown(key))
        for places in SEEKS:
            for place in places:
                self.click(place)
            path.append(self.shown("seek"))
        for tab in ([*range(2, tabs + 1), 1]) if tabs > 1 else []:
            self.do("Switching to video output", "key", str(tab))
            self.shown(f"tab{tab}", f"{tab}: " if tab > 1 else "")
        process, looks = psutil.Process(self.process.pid), []
        for count in range(reloads + 1):
            if count:
                self.do("Content reloaded successfully", "key", "ctrl+r")
                self.shown("reloaded")
            looks.append((round(process.memory_info().rss / 2**20, 1), process.num_threads(), process.num_fds()))
        slope = np.polyfit(np.arange(reloads // 2), np.array(looks)[-(reloads // 2) :, 0], 1)[0]
        if busy:
            self.click(SEEKS[0][0])
        seen = {"frames": path, "shown_again": self.again, "changed": self.changed, "reloads": reloads}
        seen |= {"late_mib_per_reload": round(float(slope), 3), "closed_before_the_frame": not self.rendered()}
        output("xdotool", "key", "alt+F4")
        seconds = wait(lambda: self.process.poll() is not None, "end")
        left = output("ps", "-eo", "sid=").decode().split().count(str(self.process.pid))
        seen |= {"exit": self.process.returncode, "seconds_to_exit": round(seconds, 2), "processes_left": left}
        return seen | {"errors_logged": len(self.said("ERROR|CRITICAL|Traceback")), "mib_threads_handles": looks}


def main() -> None:
    """Run, and note it in a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--vsview", "--script", "--shots", "--json"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--reloads", type=int, default=50)
    parser.add_argument("--busy", action="store_true")
    arguments = parser.parse_args()
    vsview, shots = str(arguments.vsview), arguments.shots.resolve()
    shots.mkdir(parents=True, exist_ok=True)
    os.environ |= {"DISPLAY": SCREEN, "COLUMNS": "300"}  # the log's lines are not broken
    output(*FILM.split(), str(shots / "film.mkv"))
    with ExitStack() as stack:
        for command in (f"Xvfb {SCREEN} -screen 0 1280x900x24", "openbox"):
            stack.callback(stack.enter_context(subprocess.Popen(command.split(), stderr=subprocess.DEVNULL)).terminate)
            time.sleep(1)
        previewer = Previewer(vsview, arguments.script, shots)
        stack.callback(previewer.process.kill)
        result = previewer.use(arguments.reloads, arguments.script.read_text().count(".set_output("), arguments.busy)
    result["vsview"] = output("sh", "-c", '"$0" --version 2>&1', vsview).decode().split()[-1]
    add_result(arguments.json, arguments.script.name + ", closed while busy" * arguments.busy, result)


if __name__ == "__main__":
    run_script(main)
