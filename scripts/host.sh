#!/usr/bin/env bash
# What the host has: GPU and Python. Sourced after lib.sh, never executed; not in the image.
# Settings read: PYENV_ROOT, UV_PYTHON_INSTALL_DIR, XDG_DATA_HOME. Exit codes: 3 without a Python.

# nvidia-smi takes seconds when its persistence daemon is off; with a wedged driver it never ends.
SMI_LIMIT_S=15
gpu_state="" # once `probe_gpu` has looked: present, none or failing
# shellcheck disable=SC2034  # read by the scripts that source this file
gpu_failure="" REPAIR_GPU="reboot, or repair the NVIDIA driver"

# probe_gpu: asks nvidia-smi once, for a limited time; where it fails, gpu_failure has its own words. Its codes
# 6, 9 and 12 (its manual: no device, the driver is not loaded, no library) are of a machine without a GPU.
probe_gpu() {
    local words="" code=0 reader
    [[ -z $gpu_state ]] || return 0
    gpu_state=none
    type -P nvidia-smi >/dev/null || return 0
    # Read with a limit of its own: a process that the driver holds outlives even `timeout` and its KILL.
    exec {reader}< <(
        timeout --foreground --kill-after=1 "$SMI_LIMIT_S" nvidia-smi -L 2>&1 || printf '\ncode %s' "$?"
    )
    # read's own code: 1 at the end of the text, over 128 when the time is over.
    IFS= read -r -d '' -t "$((SMI_LIMIT_S + 2))" -u "$reader" words || code=$?
    exec {reader}<&-
    if ((code > 128)); then
        code=124
    elif [[ ${words##*$'\n'} == "code "* ]]; then
        code=${words##*$'\n'code }
        words=${words%$'\n'*}
    else
        code=0
    fi
    judge_gpu "$code" "$words"
}

# judge_gpu CODE WORDS: what nvidia-smi's answer says of the machine.
judge_gpu() {
    local code=$1 words=$2
    if [[ $'\n'$words == *$'\nGPU '* ]]; then
        gpu_state=present
    elif ((code == 124 || code == 137)); then
        gpu_state=failing
        gpu_failure="nvidia-smi has not answered in $SMI_LIMIT_S s"
    elif ((code != 0 && code != 6 && code != 9 && code != 12)); then
        gpu_state=failing
        words=$(sed '/^[[:space:]]*$/d' <<<"$words")
        # shellcheck disable=SC2034
        gpu_failure="nvidia-smi: ${words//$'\n'/; } (code $code)"
    fi
}

# has_gpu: an NVIDIA driver that lists at least one GPU.
has_gpu() {
    probe_gpu
    [[ $gpu_state == present ]]
}

# find_python MODULE BELOW NAME...: prints the first Python of these names from 3.11 on and below 3.BELOW that has
# MODULE.
find_python() {
    local module=$1 below=$2 candidate
    local check="import sys, $module; sys.exit(not (3, 11) <= sys.version_info < (3, $below))"
    local -a candidates
    shift 2
    # All of PATH and not only its first: a version manager's shim may answer "not installed".
    mapfile -t candidates < <(type -ap "$@")
    # Where pyenv and uv keep theirs.
    candidates+=("${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[12]*/bin/python3
        "${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}"/cpython-3.1[12]*/bin/python3)
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c "$check" 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "$EXIT_MISSING" "expected Python 3.11 or 3.12 with venv, found $(list_pythons): install one beside it" \
        "(Debian 12: apt install python3-venv; Ubuntu 22.04: apt install python3.11-venv; anywhere, without" \
        "root: uv python install 3.12), or take the container, which has its own (CONTAINER=1)"
}

# list_pythons: the Pythons on PATH with their versions, each once; a right one that cannot make environments is
# said to lack venv.
list_pythons() {
    local describe='import importlib.util as u, os, sys
print("%d.%d.%d" % sys.version_info[:3], "(%s)" % os.path.realpath(sys.executable),
    *["without venv"] * (not u.find_spec("ensurepip") and (3, 11) <= sys.version_info < (3, 13)))'
    local candidate lines
    lines=$(for candidate in $(type -ap python3 python3.{8..15}); do
        "$candidate" -c "$describe" 2>/dev/null || true
    done | sort -u)
    printf '%s' "${lines:+Python }${lines//$'\n'/, }"
    [[ -n $lines ]] || printf 'none'
}
