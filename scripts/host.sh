#!/usr/bin/env bash
# What the host has: GPU and Python. Sourced after lib.sh, never executed; not in the image.
# Settings read: PYENV_ROOT. Exit codes: 3 without a Python.

# has_gpu: an NVIDIA driver that lists at least one GPU.
has_gpu() {
    [[ $(nvidia-smi -L 2>/dev/null) == GPU* ]]
}

# find_python MODULE NAME...: prints the first Python 3.11 or 3.12 of these names that has MODULE.
find_python() {
    local check="import sys, $1; sys.exit(not (3, 11) <= sys.version_info < (3, 13))"
    local candidate
    local -a candidates
    shift
    # All of PATH and not only its first: a version manager's shim may answer "not installed".
    mapfile -t candidates < <(type -ap "$@")
    candidates+=("${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[12]*/bin/python3)
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c "$check" 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "$EXIT_MISSING" "expected Python 3.11 or 3.12 with venv on PATH, found none:" \
        "install it (Debian, Ubuntu: apt install python3-venv)"
}
