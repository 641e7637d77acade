#!/usr/bin/env bash
# The options of `docker run` for docker/run.sh, which sources this: who, what it may read and write.
# Settings read: MLPERF_DATASET_SOURCE, MLPERF_MODEL, MLPERF_CALIBRATION, MLPERF_PRESET,
#   MLPERF_SYSTEM_FILE, MLPERF_INFERENCE_DIR, MLPERF_ENV_FILE, MLPERF_CA_BUNDLE, SSL_CERT_FILE, HF_HOME,
#   secrets and proxies.
# Exit codes: 2 for a folder that cannot be made.
# shellcheck disable=SC2154  # $docker, $results and $options are run.sh's

# Settings of the host's scripts, which mean nothing inside, and those that `add_volumes` sets anew.
readonly HOST_ONLY=" CONTAINER CONTAINER_ARGS IMAGE TARGET DOCKER CA_BUNDLE VENV PACKAGES RESULTS_DIR CACHE_DIR GIT_COMMIT IMAGE_ID "
readonly INSIDE=/run/secrets

# folder NAME PATH: a host folder, absolute and existing.
folder() {
    local path
    path=$(realpath -m "${2/#\~/$HOME}")
    mkdir -p "$path" || die "$EXIT_USAGE" "$1: expected a folder that can be made, found $path"
    printf '%s' "$path"
}

# add_user: the caller, so that the results are the caller's files.
add_user() {
    if [[ $docker == *podman* && $EUID -ne 0 ]]; then
        options+=(--userns keep-id)
    elif [[ $("$docker" info --format '{{.SecurityOptions}}' 2>/dev/null) == *rootless* ]]; then
        options+=(--user 0:0) # a rootless engine's root is the caller
        return
    fi
    options+=(--user "$(id -u):$(id -g)")
}

# add_gpus: every GPU, where one answers.
add_gpus() {
    has_gpu || return 0
    if [[ $docker == *podman* ]]; then
        options+=(--device nvidia.com/gpu=all)
    else
        options+=(--gpus all)
    fi
}

# add_volumes: what the run may write. The rest of the container it cannot.
add_volumes() {
    local cache hub
    cache=$(folder CACHE_DIR "$(setting CACHE_DIR "$HOME/.cache/mlperf-llama")")
    hub=$(folder HF_HOME "${HF_HOME:-$HOME/.cache/huggingface}")
    options+=(
        --read-only
        --tmpfs "/tmp:rw,exec,mode=1777" # exec: compiled kernels are loaded from there
        --volume "$results:$results"
        --env "MLPERF_RESULTS_DIR=$results"
        --volume "$cache:/cache"
        --volume "$hub:/cache/huggingface"
    )
}

# add_bind_mounts ARGUMENT...: what settings and flags name on the host, read-only, under the same path.
add_bind_mounts() {
    local word path
    local -A seen=()
    for word in "$(setting DATASET_SOURCE "")" "$(setting MODEL "")" "$(setting CALIBRATION "")" \
        "$(setting PRESET "")" "$(setting SYSTEM_FILE system.toml)" "$(setting INFERENCE_DIR "")" \
        "$(setting ENV_FILE .env)" "$@"; do
        word=${word#--*=}
        [[ -n $word && -e $word ]] || continue
        path=$(realpath -s "$word")
        # A snapshot of the hub's cache is a folder of links into ../../blobs.
        if [[ -d $path/../../blobs ]]; then path=$(realpath -s "$path/../.."); fi
        # What lies in the results is there already.
        [[ $path/ != "$results"/* && -z ${seen[$path]:-} ]] || continue
        seen[$path]=1
        options+=(--volume "$path:$path:ro")
    done
}

# add_network VERB ARGUMENT...: the host's own network where an address must mean the same inside: ENGINE's of
# servers, and SERVE_ADDRESS, with vLLM's health check.
add_network() {
    local address url
    if [[ $(setting ENGINE "") == *://* || " $* " =~ \ --engine[=\ ]+https?:// ]]; then options+=(--network host); fi
    [[ ${1:-} == serve ]] || return 0
    address=$(setting SERVE_ADDRESS 127.0.0.1:8000)
    url="http://${address/#0.0.0.0:/127.0.0.1:}/health"
    options+=(
        --network host
        --health-cmd "python3 -c 'import urllib.request as u; u.urlopen(\"$url\", timeout=5)'"
        --health-start-period 10m
    )
}

# add_environment: settings, secrets, proxies, pip's settings by name only, so that their values stay off
# the command line; and the CA bundle.
add_environment() {
    local name variable ca
    for name in $(compgen -e); do
        case $name in
            MLPERF_*) [[ $HOST_ONLY == *" ${name#MLPERF_} "* ]] || options+=(--env "$name") ;;
            HF_TOKEN_FILE | CF_ACCESS_*_FILE | ENDPOINT_API_KEY_FILE)
                options+=(--volume "$(realpath "${!name}"):$INSIDE/$name:ro" --env "$name=$INSIDE/$name")
                ;;
            HF_TOKEN | HF_ENDPOINT | CF_ACCESS_* | ENDPOINT_API_KEY | VLLM_* | NO_COLOR) options+=(--env "$name") ;;
            CUDA_VISIBLE_DEVICES | CUDA_DEVICE_ORDER) options+=(--env "$name") ;;
            HTTP_PROXY | HTTPS_PROXY | NO_PROXY | http_proxy | https_proxy | no_proxy) options+=(--env "$name") ;;
        esac
    done
    for name in $PIP_NAMES; do
        variable=PIP_${name^^}
        variable=${variable//-/_}
        export "$variable=$(pip_remote "$name")"
        [[ -z ${!variable} ]] || options+=(--env "$variable")
    done
    ca=$(setting CA_BUNDLE "${SSL_CERT_FILE:-}")
    if [[ -z $ca ]]; then return; fi
    [[ -r $ca ]] || die "$EXIT_USAGE" "CA_BUNDLE: expected a readable file, found $ca"
    options+=(--volume "$(realpath "$ca"):$INSIDE/ca:ro")
    for variable in SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO PIP_CERT; do
        options+=(--env "$variable=$INSIDE/ca")
    done
}
