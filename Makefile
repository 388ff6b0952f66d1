# `make demo` runs the main job on real models and a real corpus; `make test` passes the tests.
# Each does all of its own set-up, outside the tree (GOLDLESS_CACHE, by default ~/.cache/goldless).
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: demo test check env

env:
	@.ci/env

demo:
	@env="$$(.ci/env)"; "$$env/bin/goldless" demo $(ARGS)

check:
	@env="$$(.ci/env)"; "$$env/bin/ruff" check . && "$$env/bin/ruff" format --check . && "$$env/bin/mypy"

test: check
	@env="$$(.ci/env)"; HF_HUB_OFFLINE=1 "$$env/bin/python" -m pytest -n 2 $(ARGS)
