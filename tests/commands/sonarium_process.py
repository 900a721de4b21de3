"""The command line as a person runs it: a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

SONARIUM = [sys.executable, "-m", "sonarium"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "3000", "PYTHONWARNINGS": "default"}


def start(*words: str | Path) -> subprocess.Popen:
    return subprocess.Popen(
        [*SONARIUM, *map(str, words)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*words: str | Path) -> tuple[int, str, str]:
    """Exit code, output, and what was said on the error stream."""
    process = start(*words)
    out, said = process.communicate(timeout=240)
    return process.returncode, out, said
