"""What vspipe, the script in it and ffmpeg say: logged as it comes, and the last of it is the reason if they fail."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque

log = logging.getLogger(__name__)

LINES = 30
SECONDS = 2.0
"""A program that fails ends sooner after its last words, which then are said once, with the error."""

# What says that all is well (x265 and SVT-AV1 heed no -loglevel), that the user's options follow ours, that fonts have
# no codec, and what is advised about options for reading.
CHATTER = re.compile(
    r"\s*$|Output \d+ frames in |(x265 |Svt)\[info\]|encoded \d+ frames in |Multiple -c|.*\(Attachment: none\)"
    r"|.*Thread message queue blocking|Consider increasing the value"
)
# And that options for an encoder find none, and the shape of pixels comes from ours.
COPYING = re.compile(CHATTER.pattern + "|.*Codec AVOption|.*Overriding aspect ratio")
EVERYTHING = re.compile("")
NOISE = re.compile(r"^(Warning|Information): | @ 0x[0-9a-f]+")  # vspipe's levels, and addresses of objects in ffmpeg


class Messages:
    """The lines of one program, which one thread may hear while another logs them.

    Args:
        program: its name.
        skip: the beginnings of lines that are only heard if it fails.
    """

    def __init__(self, program: str, skip: re.Pattern[str] = CHATTER) -> None:
        self._program, self._skip = program, skip
        self._last = deque[str](maxlen=LINES)
        self._waiting = deque[tuple[float, str]]()
        self._lock = threading.Lock()

    def hear(self, line: str) -> None:
        """Take a line that the program has written."""
        with self._lock:
            self._last.append(line)
            self._waiting.append((time.monotonic(), line))
        self.pass_on()

    def pass_on(self, older_than: float = SECONDS) -> None:
        """Log lines that are older than some seconds."""
        with self._lock:
            while self._waiting and self._waiting[0][0] <= time.monotonic() - older_than:
                line = self._waiting.popleft()[1].rstrip()
                if not self._skip.match(line):
                    log.warning("%s: %s", self._program, NOISE.sub("", line))

    def include(self, text: str) -> bool:
        """Is a text among the last lines?"""
        return any(text in line for line in self._last)

    def failure(self, status: int) -> str:
        """Why the program failed: its last lines, without those that were logged if others are left."""
        cause = f"exit status {status}" if status >= 0 else f"signal {-status}"
        lines = [line for _, line in self._waiting][-LINES:] or self._last
        return f"{self._program} failed ({cause}):\n{''.join(lines).strip() or 'it gave no reason'}"
