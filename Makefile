# MLPerf Inference, Llama-3.1-8B: the front door. `make` alone prints the help.
# Over 120 lines: 29 targets, each with its help and its command, and the settings that make has to know.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules --no-print-directory

# Settings of the pipeline (settings.py) and of the scripts (lib.sh); .env.example explains each.
SETTINGS := SCENARIO MODE ROUND CATEGORY SAMPLES DURATION_S TARGET_QPS EXPECTED_LATENCY_MS SEARCH \
    PROBE_S DATASET_SOURCE MODEL CALIBRATION SOURCE_STALL_S SOURCE_TIMEOUT_S MLC_REPO R2_BASE_URL \
    R2_MODEL_URL ENGINE PRESET DTYPE QUANTIZATION SCALES KV_CACHE_DTYPE MAX_NUM_SEQS MAX_NUM_BATCHED_TOKENS \
    GPU_MEMORY_UTILIZATION GPUS TENSOR_PARALLEL HOSTS HEAD_ADDRESS SERVE_ADDRESS CONCURRENCY ENGINE_ARGS \
    IGNORE_EOS SEED SCORE_WORKERS RESULTS_DIR CACHE_DIR VERBOSITY \
    SUBMITTER DIVISION SYSTEM_FILE PRICE_PER_HOUR INFERENCE_DIR FAKE
SHELL_SETTINGS := CONTAINER IMAGE TARGET DOCKER CONTAINER_ARGS CA_BUNDLE ENV_FILE VENV SIGN_KEY ALLOWED_SIGNERS \
    PACKAGES
# What single targets take. Folders: of a saved run, of two to compare (and the page to write), of a packed
# submission, of a bundle; a load in queries/s; CHECK and KEEP of make auth.
OPTIONS := RUN_DIR A B PAGE SUBMISSION BUNDLE NEED CHECK KEEP
# Earlier names, each with the one to use now.
RENAMED := RUNG_STALL_S=SOURCE_STALL_S RUNG_TIMEOUT_S=SOURCE_TIMEOUT_S DEBUG=VERBOSITY
# Passed through the environment, only when set, and never read by a shell: any character survives.
$(foreach name,$(SETTINGS) $(SHELL_SETTINGS),$(if $(filter undefined,$(origin $(name))),,\
    $(eval export MLPERF_$(name) := $$(value $(name)))$(eval unexport $(name))))
$(foreach pair,$(RENAMED),$(if $(filter undefined,$(origin $(firstword $(subst =, ,$(pair))))),,\
    $(error $(firstword $(subst =, ,$(pair))) was renamed: set $(lastword $(subst =, ,$(pair))))))
# A misspelt setting would be ignored by make: better to stop.
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
UNKNOWN := $(filter-out $(SETTINGS) $(SHELL_SETTINGS) $(OPTIONS) HF_% CF_% ENDPOINT_API_KEY NO_COLOR -% MAKE%,$(GIVEN))
$(if $(UNKNOWN),$(error $(UNKNOWN): not a setting; `make help` lists them))

# Never expanded by make either, as the settings; and the secrets, where make has one on its command line.
$(foreach name,$(OPTIONS),$(eval $(name) ?=))
export $(OPTIONS)
$(foreach name,$(OPTIONS) $(filter HF_% CF_% ENDPOINT_API_KEY,$(GIVEN)),\
    $(eval override export $(name) := $$(value $(name))))
# $(call need,NAME,what it names,for example): one line and code 2 where NAME is empty.
need = [[ -n $$$(1) ]] || { printf 'error: %s: expected %s, found nothing: make $@ %s=%s\n' $(1) '$(2)' $(1) '$(3)' >&2; exit 2; }

.PHONY: help run resume doctor plan auth bundle load build tune submission check score report sign compare \
    history quantize serve endpoints shell lint test test-quick test-image lock sbom clean

help: ## this text
	@printf 'MLPerf Inference, Llama-3.1-8B\n\n'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1=\2/p' $(firstword $(MAKEFILE_LIST)) | \
	    while IFS='=' read -r name text; do printf '  make %-11s %s\n' "$$name" "$$text"; done
	@printf '\nSettings, as in make run SCENARIO=Server SAMPLES=24 (.env.example explains them):\n'
	@printf '%s\n' '$(SETTINGS) $(SHELL_SETTINGS)' | fold -s -w 90 | sed 's/^/  /'

run: ## the benchmark, in the container or natively; stdout: the path of the run folder
	@scripts/launch.sh run

resume: ## finishes RUN_DIR, a run that ended early, here or on another machine
	@$(call need,RUN_DIR,the folder of a run that ended early,results/...)
	@scripts/launch.sh resume "$$RUN_DIR"

doctor: ## what this machine has, lacks, and how to mend it
	@scripts/launch.sh --native doctor

plan: ## how many queries and minutes each run takes, and what it will do here; NEED=500: GPUs for that load
	@scripts/launch.sh --native plan $${NEED:+--need "$$NEED"}

auth: ## which way to the weights works here, and how to get one; CHECK=1 asks nothing, KEEP=env or files keeps
	@scripts/launch.sh --native auth $${CHECK:+--check} $${KEEP:+--keep "$$KEEP"}

bundle: ## what a machine without a network needs, gathered in the folder BUNDLE; started again it goes on
	@$(call need,BUNDLE,a folder to fill,/media/disk/bundle)
	@scripts/bundle.sh "$$BUNDLE"

load: ## sets this checkout up from the folder BUNDLE, without a network
	@$(call need,BUNDLE,a folder that make bundle has filled,/media/disk/bundle)
	@scripts/load.sh "$$BUNDLE"

build: ## the CUDA image; TARGET=cpu: the CPU image
	@docker/build.sh

tune: ## finds the highest TARGET_QPS that stays VALID, and the engine settings for this GPU
	@scripts/launch.sh tune

submission: ## every run that a submission needs, packed and checked
	@scripts/launch.sh submission

check: ## MLCommons' checker and ours on the tree in SUBMISSION (default: what was packed last)
	@scripts/launch.sh --native check $${SUBMISSION:+"$$SUBMISSION"}

score: ## scores the accuracy logs of RUN_DIR (default: the latest run) again
	@scripts/launch.sh --native score $${RUN_DIR:+--run-dir "$$RUN_DIR"}

report: ## words, tables and charts from the records of RUN_DIR (default: the latest run)
	@scripts/launch.sh --native report $${RUN_DIR:+--run-dir "$$RUN_DIR"}

sign: ## signs the hashes of RUN_DIR (default: the latest run) with SIGN_KEY
	@scripts/launch.sh --native sign $${RUN_DIR:+--run-dir "$$RUN_DIR"}

compare: ## which of two runs is faster: A= and B= name their folders (repeats with commas), PAGE= a page to write
	@$(call need,A,the folder of a run,results/...)
	@$(call need,B,the folder of another run,results/...)
	@scripts/launch.sh --native compare "$$A" "$$B" $${PAGE:+--page "$$PAGE"}

history: ## a page of all runs below RESULTS_DIR, by machine and over time
	@scripts/launch.sh --native history

quantize: ## an FP8 checkpoint of the model, made by the benchmark's rules
	@scripts/launch.sh quantize

serve: ## the engine of these settings as an OpenAI server at SERVE_ADDRESS, until it is stopped
	@scripts/launch.sh serve

endpoints: ## MLPerf Endpoints: the plan of a curve, and its official client point by point against `make serve`
	@scripts/launch.sh --native endpoints

shell: ## a shell in the container (CONTAINER=0: with the native environment)
	@scripts/launch.sh shell

lint: ## ruff, mypy, ShellCheck and shfmt
	@scripts/native.sh --dev scripts/lint.sh

test: lint ## everything that can be tested on this machine, without an image
	@scripts/native.sh --dev ./test_pipeline.sh
	@scripts/native.sh --dev python -m pytest -q -m 'not image and not vllm' -n 2 --dist loadfile
	@scripts/native.sh --dev python -m pytest -q -m 'vllm and not image' # takes every core

test-quick: ## the tests of pure code
	@scripts/native.sh --dev python -m pytest -q -m 'not slow and not image and not vllm' python/tests/unit -n 2

test-image: ## builds the CPU image (TARGET=cuda: the CUDA image) and runs it
	@docker/test-image.sh

lock: ## makes the lock files again from pyproject.toml
	@scripts/lock.sh

sbom: ## what the image holds, as a CycloneDX list
	@docker/sbom.sh

clean: ## removes the native environment and the tools' caches; results/ stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
	@find python -name __pycache__ -type d -prune -exec rm -rf {} +
