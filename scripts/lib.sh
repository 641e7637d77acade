#!/usr/bin/env bash
# Shared by every script: exit codes, messages, settings, children. Sourced, never executed.
# Settings read: NO_COLOR, VERBOSITY, MLPERF_ENV_FILE, and the secrets, to hide them. Exit codes: none of its own.
# Over 120 lines: one file that every script sources.

# The contract of mlperf_llama.errors, mirrored here once; a test compares the two.
# shellcheck disable=SC2034  # read by the scripts that source this file
readonly EXIT_OK=0 EXIT_FAULT=1 EXIT_USAGE=2 EXIT_MISSING=3 EXIT_BROKE=4 EXIT_INVALID=5 \
    EXIT_INT=130 EXIT_TERM=143

# What the caller closed is opened for nothing: a redirection to it would fail.
true >&2 || exec 2>/dev/null
{ true >&1; } 2>/dev/null || exec >/dev/null
{ true <&0; } 2>/dev/null || exec </dev/null

# paint CODE TEXT: TEXT in an ANSI colour when stderr is a terminal and NO_COLOR is unset.
paint() {
    if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
        printf '\033[%sm%s\033[0m' "$1" "$2"
    else
        printf '%s' "$2"
    fi
}

# redacted TEXT: without the user and password of an address and the secrets of the environment.
# What Python says goes through credentials/redaction.py.
redacted() {
    local text=$* name value
    for name in HF_TOKEN CF_ACCESS_CLIENT_ID CF_ACCESS_CLIENT_SECRET CF_ACCESS_TOKEN ENDPOINT_API_KEY; do
        read -r value <<<"${!name:-}" || true
        value=${value%$'\r'}
        if ((${#value} >= 8)); then text=${text//"$value"/***}; fi
    done
    while [[ $text =~ ^(.*https?://)[^/?#[:space:]*]+@(.*)$ ]]; do
        text="${BASH_REMATCH[1]}***@${BASH_REMATCH[2]}"
    done
    printf '%s' "$text"
}

# visible TEXT: with control characters shown, so that a name can send none to the terminal.
visible() {
    printf '%s\n' "$*" | LC_ALL=C sed -e 's/\x1b/\\x1b/g' -e 's/\r/\\r/g' | LC_ALL=C tr '\001-\010\013-\037\177' '?'
}

# say TEXT: one time-stamped line on stderr; stdout is for results only. Where stderr is full or nobody reads
# it, the line is lost and nothing ends: PIPE ends a subshell alone.
say() {
    (printf '%(%H:%M:%S)T %s\n' -1 "$(redacted "$*")" >&2) || true
}

# log TEXT: a line that VERBOSITY=quiet leaves out; warnings and errors stay.
log() {
    [[ $verbosity == quiet ]] || say "$*"
}

warn() {
    say "$(paint 33 warning:) $(visible "$*")"
}

# die CODE TEXT: say what was expected, what was found and what to do, then exit.
die() {
    local code=$1
    shift
    say "$(paint 31 error:) $(visible "$*")"
    exit "$code"
}

# require COMMAND WHY: the command must exist.
require() {
    command -v "$1" >/dev/null || die "$EXIT_MISSING" "$1 is needed ($2), but is not on PATH: install it"
}

# temporary_folder: prints the path of a new one.
temporary_folder() {
    mktemp -d 2>/dev/null || die "$EXIT_MISSING" "expected a folder for temporary files that can be written," \
        "found ${TMPDIR:-/tmp}: set TMPDIR to another"
}

# meaning CODE: an exit code in words.
meaning() {
    case $1 in
        "$EXIT_OK") printf 'done' ;;
        "$EXIT_USAGE") printf 'a wrong setting' ;;
        "$EXIT_MISSING") printf 'something is missing' ;;
        "$EXIT_BROKE") printf 'started and broke' ;;
        "$EXIT_INVALID") printf 'finished but not valid' ;;
        "$EXIT_INT" | "$EXIT_TERM") printf 'interrupted' ;;
        *) printf 'an unexpected fault' ;;
    esac
}

# setting NAME DEFAULT: MLPERF_NAME from the environment, else from .env, else DEFAULT.
# For the scripts' own settings; all others are read by config.py, in the same order.
setting() {
    local name=MLPERF_$1
    local value=${!name:-}
    local file=${MLPERF_ENV_FILE:-.env}
    if [[ -z $value && -f $file ]]; then
        value=$(sed -n "s/^[[:space:]]*${name}[[:space:]]*=[[:space:]]*//p" "$file" | tail -n 1)
        value=${value%"${value##*[![:space:]]}"}
    fi
    printf '%s' "${value:-$2}"
}

# VERBOSITY as the environment or .env has it: quiet, normal or debug. A flag reaches Python alone.
verbosity=$(setting VERBOSITY normal)
verbosity=${verbosity,,}

child=""   # the process that `run_child` waits for
stopped="" # the exit code once INT or TERM has arrived

stop() {
    stopped=$1
    if [[ -n $child ]]; then kill -TERM "$child" 2>/dev/null || true; fi
}

# trap_signals: from here on INT and TERM are passed on to the child that `run_child` waits for.
trap_signals() {
    trap 'stop "$EXIT_INT"' INT
    trap 'stop "$EXIT_TERM"' TERM
}

# run_child COMMAND...: run it and give its exit code, or that of the signal that stopped us.
# In the background, since bash would run a trap only after a child in the foreground. The child
# is told by TERM, never INT: bash starts it with INT ignored, until it has handlers of its own.
run_child() {
    local code
    "$@" &
    child=$!
    # A trap wakes `wait` too; the child is gone only when it cannot be signalled any more.
    while :; do
        code=0
        wait "$child" || code=$?
        kill -0 "$child" 2>/dev/null || break
    done
    child=""
    return "${stopped:-$code}"
}
