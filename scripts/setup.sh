#!/bin/sh
# Make .venv with the versions of requirements.lock. Where the package index offers a CPU build of torch and
# there is no NVIDIA GPU, that build is taken, so that no CUDA libraries are downloaded unasked.
set -eu
PYTHON=${PYTHON:-python3}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "sonarium needs Python 3.11 or newer, and $PYTHON is $("$PYTHON" --version 2>&1): use make PYTHON=python3.12" >&2
    exit 1
}
[ -x .venv/bin/pip ] || "$PYTHON" -m venv .venv || {
    echo "could not make a virtual environment: on Debian and Ubuntu, install the package python3-venv" >&2
    exit 1
}
pip() { .venv/bin/python -m pip --disable-pip-version-check -q "$@"; }

torch=$(grep '^torch==' requirements.lock)
if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
    if command -v nvidia-smi >/dev/null 2>&1; then
        echo "installing $torch for the NVIDIA GPU (several gigabytes, once)"
        pip install "$torch"
    else
        echo "installing $torch for the CPU"
        pip install "$torch+cpu" 2>/dev/null || {
            echo "the package index offers no separate CPU build for this machine: taking its usual $torch"
            pip install "$torch"
        }
    fi
fi
echo "installing the other packages of requirements.lock"
grep -v '^torch==' requirements.lock > .venv/others.lock
pip install -r .venv/others.lock
pip install --no-deps -e .
