#!/usr/bin/env bash
# What the host has: GPU and Python. Sourced after lib.sh, never executed; not in the image.
# Settings read: PYENV_ROOT. Exit codes: 3 without a Python.

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
