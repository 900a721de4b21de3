"""The process that decodes: it answers requests for files one after the other until its input ends, or none comes.

A request is JSON on a line. An answer is a sequence of messages, each a letter, the number of its bytes, and
these: the header, the samples block by block, and the end; or what is wrong. The system ends the process if it
computes for long without a message, and refuses it memory beyond a limit.
"""

import errno
import json
import os
import resource
import select
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from sonarium.worlds.audio.file import BadAudio, Limits, Recording

READY, HEADER, SAMPLES, END, BAD, FAILED = b"rhsebf"
MEMORY = 800 << 20
"""Bytes of memory that the process may take."""
SECONDS = 2
"""Whole seconds that it may compute between two messages, up to one less; and one more for each `SCANNED`."""
SCANNED = 1 << 26
"""Bytes of a file that are looked through within a second by far."""
OUTPUT = 1 << 16
IDLE = 30
"""Seconds without a request after which the process ends, so that it takes no memory of a long training."""


def serve() -> None:
    """Answer all requests."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb", OUTPUT)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        # libmpg123 writes remarks to the terminal.
        os.dup2(nothing, stream)
    os.close(nothing)
    restrict(resource.RLIMIT_CORE, 0)
    restrict(resource.RLIMIT_DATA, MEMORY)
    send(answers, READY)
    answers.flush()
    while select.select([requests], [], [], IDLE)[0] and (line := requests.readline()):
        answer(json.loads(line), answers)
        answers.flush()


def answer(request: dict[str, Any], answers: IO[bytes]) -> None:
    """Decode one file; every fault is told."""
    path = Path(request["path"])
    try:
        patience = SECONDS + (path.stat().st_size if path.is_file() else 0) // SCANNED
        allow(patience)
        recording = Recording(path, Limits(**request["limits"]))
        send(answers, HEADER, as_json(vars(recording.header)))
        for block in recording.mono(request["rate"], request["channel"]) if request["rate"] else ():
            send(answers, SAMPLES, np.ascontiguousarray(block, np.float32).data)
            allow(patience)
        send(answers, END)
    except BadAudio as error:
        send(answers, BAD, as_json({"reason": error.reason, "remedy": error.remedy, "passing": error.passing}))
    except OSError as error:
        send(answers, FAILED, as_json({"number": error.errno or errno.EIO, "said": error.strerror or str(error)}))
    except Exception as error:
        # No file stops the others, whatever it does to the decoder.
        how = "memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"
        send(answers, BAD, as_json({"reason": f"cannot be decoded ({how})"}))


def as_json(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def send(answers: IO[bytes], kind: int, content: Any = b"") -> None:
    answers.write(bytes([kind]) + memoryview(content).nbytes.to_bytes(4, "little"))
    answers.write(content)


def allow(seconds: int) -> None:
    """Let it compute for so long, in time of the processor, which others on the machine do not use up."""
    restrict(resource.RLIMIT_CPU, int(time.process_time()) + seconds)


def restrict(what: int, to: int) -> None:
    """Set a limit, within what the process was given."""
    _, most = resource.getrlimit(what)
    resource.setrlimit(what, (to if most == resource.RLIM_INFINITY else min(to, most), most))


if __name__ == "__main__":
    sys.exit(serve())
