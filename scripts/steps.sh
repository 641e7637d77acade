#!/usr/bin/env bash
# Runs the steps of scripts/native.sh side by side, with progress on stderr.
# Sourced, never executed; uses $root, $venv, $build and $lock of native.sh. Exit codes: 3, 130, 143.
# shellcheck disable=SC2154  # those four are native.sh's

# Python's byte code is not made here: it makes, and keeps, that of the few modules it imports.
export PIP_NO_COMPILE=1
# Warnings (they are about other people's packages) are hidden, errors are not.
export PIP_QUIET=2

# start_step NAME COMMAND...: as a process of its own, its output kept for the case of failure.
# A process group of its own too, so that stopping it also stops pip's children; and without
# the lock, so that a stray child cannot hold it.
start_step() {
    local name=$1
    shift
    # pip keeps a log of its own, which names the hosts that it asked.
    PIP_LOG=$scratch/$name.pip setsid "$@" >"$scratch/$name.log" 2>&1 {lock}>&- &
    running[$name]=$!
}

# end_step NAME: its line on the screen; a failed step ends the set-up.
end_step() {
    local code=0
    wait "${running[$1]}" || code=$?
    unset "running[$1]"
    if ((code)); then
        tail -n 15 "$scratch/$1.log" >&2
        die "$EXIT_MISSING" "setting up $venv: '$1' failed, see above; $(cure "$scratch/$1.pip"), then run the" \
            "same command again"
    fi
    log "set-up: $1 done ($SECONDS s)"
}

# cure LOG: what helps, by the hosts that did not answer, as pip's log names them.
cure() {
    local hosts=""
    [[ ! -f $1 ]] || hosts=$(sed -nE "s/.*(ConnectionPool|Connection)\(host='?([^', )]+).*/\2/p" "$1" | sort -u)
    if [[ -n $hosts ]]; then
        printf '%s did not answer: set HTTPS_PROXY for a proxy, PIP_INDEX_URL for a mirror, or PIP_FIND_LINKS for' \
            "${hosts//$'\n'/, }"
        printf ' a folder of wheels'
    else
        printf 'check the network and the free disk space'
    fi
}

# wait_for_steps: wait for all that was started; a line as each ends, and one every 15 seconds.
wait_for_steps() {
    local name reported=$SECONDS
    while ((${#running[@]})); do
        sleep 0.2
        for name in "${!running[@]}"; do
            if ! kill -0 "${running[$name]}" 2>/dev/null; then
                end_step "$name"
                reported=$SECONDS
            fi
        done
        if ((SECONDS - reported >= 15)); then
            log "set-up: still at ${!running[*]} ($SECONDS s)"
            reported=$SECONDS
        fi
    done
}

# clean_up: end what is still running and leave no scratch behind.
clean_up() {
    local pid
    for pid in "${running[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
    rm -rf "$scratch"
}

# make_base: the environment from nothing.
make_base() {
    local python
    # 3.11 before 3.12: the image has it, and what runs natively is what runs in the image.
    python=$(find_python ensurepip 13 python3.11 python3.12 python3)
    log "set-up: $venv for the $build build with $("$python" --version 2>&1), about two minutes"
    find "$venv" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +
    "$python" -m venv "$venv"
    log "set-up: empty environment done ($SECONDS s)"
    start_step pip "$root/scripts/environment.sh" "$venv" "$build" pip
    wait_for_steps
    start_step packages "$root/scripts/environment.sh" "$venv" "$build" packages
    start_step LoadGen "$root/scripts/environment.sh" "$venv" "$build" loadgen
    wait_for_steps
    start_step NLTK "$root/scripts/environment.sh" "$venv" "$build" nltk
    wait_for_steps
}

# install_all BASE_STAMP EXTRA...: whatever is not stamped yet; the stamps come last.
install_all() {
    declare -gA running=()
    scratch=$(temporary_folder)
    trap clean_up EXIT
    trap 'exit "$EXIT_INT"' INT
    trap 'exit "$EXIT_TERM"' TERM
    local base=$1 extra
    shift
    if ! stamped base "$base"; then
        make_base
        printf '%s\n' "$base" >"$venv/.stamp-base"
    fi
    for extra in "$@"; do
        if ! stamped_extras "$extra"; then
            start_step "$extra" "$venv/bin/python" -m pip install --disable-pip-version-check --no-input \
                --no-deps --require-hashes -r "$root/locks/$extra.lock"
            wait_for_steps
            fingerprint "locks/$extra.lock" >"$venv/.stamp-$extra"
        fi
    done
    clean_up
    trap - EXIT INT TERM
    exec {lock}>&- # what follows us must not hold it
    log "set-up: ready ($SECONDS s)"
}
