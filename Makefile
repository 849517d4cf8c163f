# Every target but `run` rests on `setup`, which does nothing when nothing is missing.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3.14 python3; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= auto
TOOLS := .cache/tools
MERMAID := 11.17.2
MERMAID_SHA512 := 57a2b70bc101744b0f1595d228c25eea9a50384371b87011afd1af1d7e21878ee501b84c443f6a7f8a042bb2e869143150b31af34feab798073bbdda0a578106
MERMAID_FILE := .cache/docs/mermaid-$(MERMAID).min.js
OPERATOR := github.com/prometheus-operator/prometheus-operator
CHART := deploy/helm/cubequeue
CHART_SETS := auth.password=x,tls.secretName=tls,metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true,podDisruptionBudget.enabled=true
COMPAT := .pytest_cache/compatibility

# Where it is set, each start of a server from this tree compiles all its modules anew: 150 ms that no user waits for.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup clients run test e2e compat soak lint lint-deploy generate docs format bench lock \
  image image-arm64 image-test sbom clean
.DEFAULT_GOAL := help

help: ## Show the targets
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(VENV)/.ready ## Make the virtual environment with the pinned packages

$(VENV)/.ready-run: requirements.lock
	@test -n "$(PYTHON)" || { echo "cubequeue needs Python 3.11 or newer" >&2; exit 1; }
	@echo "Making $(VENV) with the $$(grep -c == requirements.lock) packages that a run needs (once, some seconds) ..."
	@$(PYTHON) -m venv $(VENV) || { echo "cubequeue needs the module venv (Debian: python3-venv)" >&2; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.ready: requirements-dev.lock pyproject.toml $(VENV)/.ready-run
	@echo "Adding the packages of tests and tools to $(VENV) (once, about a minute) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clients: setup ## Install the real Cube clients from npm that the tests drive
	$(BIN)/python tests/clients/install.py clients mysql

# A run needs 78 MB of packages, pip included; with those of the tests (`make setup`) they are 385 MB.
run: $(VENV)/.ready-run ## Start the server in the foreground, on packages of the run-time only
	exec $(BIN)/python -m cubequeue_server serve

test: clients ## Run every test but the end-to-end and soak ones
	$(BIN)/pytest -n $(JOBS) -m "not e2e and not image and not soak"

e2e: setup ## Two whole Cube API servers on one cubequeue
	$(BIN)/python tests/clients/install.py e2e
	$(BIN)/pytest -m e2e

compat: clients ## Every version of Cube at every announced version; writes the README's table
	rm -rf $(COMPAT) && mkdir -p $(COMPAT)
	COMPATIBILITY_RECORD=$(CURDIR)/$(COMPAT) $(BIN)/pytest -n $(JOBS) tests/clients/test_compatibility.py -k test_cell
	$(BIN)/python -m tests.clients.compatibility $(COMPAT)

soak: setup ## The long forms of the property and fault tests
	$(BIN)/pytest -m soak

lint: setup ## Formatting, lint, strict types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.ready-deploy: requirements-deploy.lock $(VENV)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-deploy.lock
	@touch $@

# helm and promtool from their Go modules, as deploy/tools/go.mod and go.sum pin them; the definitions of the Prometheus
# operator's resources are files of its module.
$(TOOLS)/.ready: deploy/tools/go.mod deploy/tools/go.sum
	@command -v go >/dev/null || { echo "lint-deploy needs Go (Debian: golang-go)" >&2; exit 1; }
	@echo "Building helm and promtool in $(TOOLS) (once, two minutes on two cores) ..."
	@mkdir -p $(TOOLS)
	cd deploy/tools && go build -buildvcs=false -tags remove_all_sd -ldflags "-s -w" -o $(CURDIR)/$(TOOLS)/ \
	  helm.sh/helm/v3/cmd/helm github.com/prometheus/prometheus/cmd/promtool
	cd deploy/tools && go mod download $(OPERATOR) && for kind in servicemonitors prometheusrules; do \
	  install -m 644 -t $(CURDIR)/$(TOOLS) \
	    "$$(go list -m -f '{{.Dir}}' $(OPERATOR))/example/prometheus-operator-crd/monitoring.coreos.com_$$kind.yaml"; \
	done
	@touch $@

# `config` resolves and checks the whole file by the schema of Compose; no daemon is asked, nothing is fetched.
# `template` is asked for everything that the chart can make, once for each profile.
lint-deploy: $(VENV)/.ready-deploy $(TOOLS)/.ready ## Dockerfile, compose file, manifests, chart and alerts, by the tools of the trade
	$(BIN)/hadolint Dockerfile
	CUBEQUEUE_PASSWORD=x CUBEJS_API_SECRET=x $(BIN)/docker-compose --file deploy/compose.yaml config --quiet
	CUBEQUEUE_PASSWORD=x CUBEJS_API_SECRET=x $(BIN)/docker-compose --file deploy/compose.yaml \
	  --file deploy/compose.pre-aggregations.yaml config --quiet
	CUBEQUEUE_PASSWORD=x $(BIN)/docker-compose --file deploy/shared-store/compose.yaml config --quiet
	$(BIN)/kubernetes-validate --strict --quiet \
	  $(filter-out %/kustomization.yaml,$(wildcard deploy/shared-store/kubernetes/*.yaml))
	$(BIN)/kubernetes-validate --strict --quiet $(filter-out %/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml)) \
	  deploy/kubernetes/backup/cronjob.yaml
	mkdir -p build/chart
	set -e; for profile in small medium large; do \
	  $(TOOLS)/helm lint --strict --quiet $(CHART) --values $(CHART)/values-$$profile.yaml --set $(CHART_SETS); \
	  $(TOOLS)/helm template cube $(CHART) --values $(CHART)/values-$$profile.yaml --set $(CHART_SETS) \
	    --kube-version 1.37 > build/chart/$$profile.yaml; \
	  $(BIN)/kubernetes-validate --strict --quiet --no-warn build/chart/$$profile.yaml; \
	done
	$(TOOLS)/promtool check rules --lint=all --lint-fatal $(CHART)/files/alerts.yaml
	$(TOOLS)/promtool test rules tests/deploy/alerts_test.yaml

generate: setup ## Write the pages that say what the code says: settings, metrics, command line
	$(BIN)/python -m docs_site.generate

$(VENV)/.ready-docs: requirements-docs.lock $(VENV)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-docs.lock
	@touch $@

# What draws the diagrams, served by the site itself: one file of the package from npm, held to its checksum.
$(MERMAID_FILE):
	@command -v npm >/dev/null || { echo "docs needs npm (Debian: npm)" >&2; exit 1; }
	@rm -rf $(@D) && mkdir -p $(@D)
	cd $(@D) && npm pack --silent mermaid@$(MERMAID) >/dev/null
	echo "$(MERMAID_SHA512)  $(@D)/mermaid-$(MERMAID).tgz" | sha512sum --check --quiet
	tar --extract --gzip --to-stdout --file $(@D)/mermaid-$(MERMAID).tgz package/dist/mermaid.min.js > $@.part
	mv $@.part $@

docs: $(VENV)/.ready-docs $(MERMAID_FILE) ## The documentation as a site, in dist/docs: files for any web server
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=$(CURDIR) $(BIN)/mkdocs build --quiet --strict --config-file docs_site/mkdocs.yml
	$(BIN)/python -m docs_site.check dist/docs

format: setup ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what the targets made
	rm -rf $(VENV) .cache dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis \
	  tests/*/packages/*/node_modules

UV_LOCK = uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
  --generate-hashes --no-emit-index-url

lock: ## Resolve the pinned versions anew (needs uv)
	$(UV_LOCK) --output-file requirements.lock pyproject.toml
	$(UV_LOCK) --group dev pyproject.toml --constraint requirements.lock --output-file requirements-dev.lock
	$(UV_LOCK) --group deploy --constraint requirements-dev.lock --output-file requirements-deploy.lock
	$(UV_LOCK) --group docs --constraint requirements-dev.lock --output-file requirements-docs.lock
	$(UV_LOCK) --group sbom --output-file requirements-sbom.lock

bench: setup ## Figures as ratios to a bare echo and to Redis (needs gcc and redis-server)
	$(BIN)/python -m bench

image: ## Build the container image with docker, podman or buildah
	deploy/build-image cubequeue:latest

image-arm64: ## The same for arm64 on another machine (needs qemu-user-static and a base image for arm64)
	deploy/build-image cubequeue:latest-arm64 --platform linux/arm64

sbom: ## The packages of the image as CycloneDX, in dist/sbom.json
	mkdir -p dist
	deploy/build-image cubequeue:sbom --target sbom --output dist

image-test: setup clients image ## Run the built image as process 1 on a read-only root (needs buildah and root)
	$(BIN)/pytest -m image tests/image
