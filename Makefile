# `make` alone lists what there is. Every target makes .venv first, once per requirements.lock.

BIN := .venv/bin
READY := .venv/ready
# Never import from the current folder: the unit folder `operator` is not Python's module of that name.
export PYTHONSAFEPATH := 1

# Benchmarks, demo and tests take further arguments: make test ARGS="-k limiter"
ARGS ?=

# The browser tests need a browser; without one they are left out, and said to be.
CHROMIUM := $(firstword $(foreach name,$(PEAKCLIP_CHROMIUM) chromium chromium-browser google-chrome google-chrome-stable,$(shell command -v $(name) 2>/dev/null)))

# So with helm, which renders the chart. `make e2e` compiles one.
HELM := $(firstword $(shell command -v helm) $(wildcard $(or $(PEAKCLIP_CLUSTER_CACHE),$(HOME)/.cache/peakclip-cluster)/bin/helm))
WITHOUT_HELM := $(if $(HELM),,@echo 'NOT TESTED: the chart as helm renders it. No helm here (make e2e compiles one).')

# So with the disk whose plug is pulled: a file system of the tests' own.
LIBFUSE := $(shell python3 -c 'import ctypes.util; print(ctypes.util.find_library("fuse3") or "")' 2>/dev/null)
WITHOUT_POWER := $(if $(and $(filter 0,$(shell id -u)),$(wildcard /dev/fuse),$(LIBFUSE)),,@echo 'NOT TESTED: the power cut. It needs root, /dev/fuse and libfuse3 (Debian: apt-get install fuse3).')

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

$(READY): requirements.lock pyproject.toml scripts/environment scripts/uv-version
	@./scripts/environment
	@touch $@

.PHONY: demo
demo: $(READY) ## the whole system on this machine, a burst of 10,000 orders, a live view (ARGS="--exit" to end)
	$(BIN)/peakclip demo $(ARGS)

.PHONY: test
test: $(READY) ## every test that needs no cluster
	$(WITHOUT_HELM)
	$(WITHOUT_POWER)
ifeq ($(CHROMIUM),)
	@echo 'NOT TESTED: the dashboard in a browser. No chromium here (Debian: apt-get install chromium).'
	$(BIN)/pytest -m 'not browser and not e2e and not long' $(ARGS)
	@echo 'NOT TESTED: the dashboard in a browser. No chromium here (Debian: apt-get install chromium).'
else
	PEAKCLIP_CHROMIUM=$(CHROMIUM) $(BIN)/pytest $(ARGS)
endif
	$(WITHOUT_HELM)
	$(WITHOUT_POWER)

.PHONY: e2e
e2e: $(READY) ## every test on a real Kubernetes: yours, kind or the bare node (tests/e2e/conftest.py)
	$(BIN)/pytest -m e2e --capture=no tests/e2e $(ARGS)

.PHONY: kind
kind: ## a kind cluster with an ingress on http://localhost:8081 (needs docker or podman)
	scripts/kind-cluster

.PHONY: dev
dev: $(READY) ## the dev loop: Tilt on the cluster of `make kind`
	scripts/dev $(ARGS)

.PHONY: lint
lint: $(READY) ## style, types and the layering of the packages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: fmt
fmt: $(READY) ## format the code and repair what can be repaired
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: bench
bench: $(READY) ## accept and drain, side by side with other designs (minutes)
	PYTHONPATH=.:tests $(BIN)/python -m benchmarks $(ARGS)

.PHONY: faults
faults: $(READY) ## what `make test` leaves out because it takes long: protections taken out, disks in trouble (a quarter of an hour)
	$(BIN)/pytest -m long $(ARGS)

# How many restarts of nats-server in a row. 300 take some ten minutes.
COUNT ?= 300
.PHONY: restarts
restarts: $(READY) ## restart nats-server under load, again and again, and see that everybody goes on (COUNT=20)
	PEAKCLIP_RESTARTS=$(COUNT) $(BIN)/pytest --capture=no tests/faults/test_restarts.py -k every_restart $(ARGS)

# How many random scenarios the sweep makes, and by how many processes. 100,000 take some ten minutes on two cores.
RUNS ?= 100000
# How many runs of the limiter, event by event. 1,000 take some four minutes on two cores.
EVENT_RUNS ?= 1000
.PHONY: simulate
simulate: $(READY) ## the autoscaler against others in simulated scenarios, then 100,000 random ones and 1,000 of the limiter (RUNS=1000)
	$(BIN)/peakclip simulate --against all $(ARGS)
	$(BIN)/peakclip simulate --sweep $(RUNS)
	$(BIN)/peakclip simulate --events --sweep $(EVENT_RUNS)

# The first seed of `make dst`, and how many follow it (RUNS, 1,000 here): some 10 a second on one core.
FROM ?= 0
.PHONY: dst
dst: RUNS := $(if $(filter 100000,$(RUNS)),1000,$(RUNS))
dst: $(READY) ## the whole system on virtual time over models of its servers, from seeds, with faults (RUNS=50000 FROM=0)
	PYTHONPATH=tests:. $(BIN)/python -m simulation.system --runs $(RUNS) --from $(FROM) $(ARGS)

# How long, from which seed (any if none is given), how many orders a second and faults a minute.
MINUTES ?= 5
RATE ?= 600
FAULTS ?= 30
.PHONY: soak
soak: $(READY) ## the whole system under load and faults, then the full check (MINUTES=40 SEED=7 RATE=600 FAULTS=30)
	PYTHONPATH=tests:. $(BIN)/python -m faults.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) --rate $(RATE) --faults $(FAULTS) $(ARGS)

.PHONY: mutation
mutation: $(READY) ## plant faults in the plan and the limiter, and count those that no test notices (hours; ARGS="plan.steps")
	scripts/mutation $(ARGS)

COMPILE := UV_SYSTEM_CERTS=1 $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock' --quiet
# What goes into which image. Their locks take every version from requirements.lock.
IMAGE := $(COMPILE) --constraint requirements.lock

.PHONY: images
images: ## the container images, with docker, podman or buildah (ARGS="worker" for one)
	scripts/build-images $(ARGS)

.PHONY: nats-roles
nats-roles: $(READY) ## write the chart's NATS permissions and their page from lib/peakclip/roles.py
	$(BIN)/python scripts/nats-roles $(ARGS)

.PHONY: chart-docs
chart-docs: ## the chart's README from its values (needs Go)
	go run github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2 --chart-search-root charts

.PHONY: crd
crd: $(READY) ## the definition of the resource WorkerPool, from its model in operator/
	$(BIN)/python -m peakclip_operator.resource
.PHONY: dashboard
dashboard: $(READY) ## write the Grafana dashboard from scripts/dashboard_panels.py
	PYTHONPATH=scripts $(BIN)/python scripts/dashboard.py > charts/peakclip/files/dashboards/peakclip.json

.PHONY: lock
lock: $(READY) ## bring requirements.lock and those of the images up to date with pyproject.toml (ARGS="--upgrade" for newest versions)
	$(COMPILE) pyproject.toml --all-extras --group test --group lint --group build --group dev --output-file requirements.lock $(ARGS)
	$(IMAGE) pyproject.toml --extra api --extra otel --output-file requirements/api.lock
	$(IMAGE) pyproject.toml --extra worker --extra migrate --extra otel --output-file requirements/worker.lock
	$(IMAGE) pyproject.toml --extra operator --output-file requirements/operator.lock
	$(IMAGE) --group build --output-file requirements/build.lock
	$(IMAGE) --group dev --output-file requirements/dev.lock
	$(IMAGE) pyproject.toml --all-extras --group test --group mutation --output-file requirements/mutation.lock

.PHONY: clean
clean: ## remove .venv and every cache; data folders stay
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
