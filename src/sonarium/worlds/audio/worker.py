"""The decoding process: it answers requests for files one by one until its input ends or no request comes.

A request is one line of JSON. An answer is a sequence of messages, each a letter, the number of its bytes, and
these bytes: the header, the samples block by block, and the end; or the fault. The system kills the process if it
computes too long without a message, and refuses it memory beyond a limit; Windows has no such limits.
"""

import errno
import json
import os
import select
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from sonarium.worlds.audio.file import BadAudio, Limits, Recording

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None

READY, HEADER, SAMPLES, END, BAD, FAILED = b"rhsebf"
MEMORY = 800 << 20
"""Memory limit of the process in bytes."""
SECONDS = 2
"""CPU seconds allowed between two messages (in effect up to one less), plus one for each `SCANNED` bytes."""
SCANNED = 1 << 26
"""Bytes of a file that are scanned in well under a second."""
OUTPUT = 1 << 16
IDLE = 30
"""Seconds without a request after which the process exits, so that it uses no memory during long training."""


def serve() -> None:
    """Answer requests until the input ends or the process is idle."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb", OUTPUT)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        # libmpg123 prints messages to the terminal.
        os.dup2(nothing, stream)
    os.close(nothing)
    restrict("RLIMIT_CORE", 0)
    restrict("RLIMIT_DATA", MEMORY)
    send(answers, READY)
    answers.flush()
    while requested(requests) and (line := requests.readline()):
        answer(json.loads(line), answers)
        answers.flush()


def requested(requests: IO[bytes]) -> bool:
    """Wait for a request or the end of the input; False on timeout."""
    # On Windows, select takes only sockets: the process has no timeout there.
    return resource is None or bool(select.select([requests], [], [], IDLE)[0])


def answer(request: dict[str, Any], answers: IO[bytes]) -> None:
    """Decode one file, and report every fault."""
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
        # No file may prevent the decoding of others, whatever it does to the decoder.
        how = "memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"
        send(answers, BAD, as_json({"reason": f"cannot be decoded ({how})"}))


def as_json(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def send(answers: IO[bytes], kind: int, content: Any = b"") -> None:
    answers.write(bytes([kind]) + memoryview(content).nbytes.to_bytes(4, "little"))
    answers.write(content)


def allow(seconds: int) -> None:
    """Set the limit of CPU time to this many seconds from now, independent of the load of the machine."""
    restrict("RLIMIT_CPU", int(time.process_time()) + seconds)


def restrict(name: str, to: int) -> None:
    """Set a resource limit, at most the hard limit of the process."""
    if resource is None:
        return
    what: int = vars(resource)[name]
    _, most = resource.getrlimit(what)
    resource.setrlimit(what, (to if most == resource.RLIM_INFINITY else min(to, most), most))


if __name__ == "__main__":
    sys.exit(serve())
