# The commands for developers. Each installs what it needs first; that takes only Python 3.11 to 3.14 and make.
# ARGS are passed to the command: make serve ARGS="--port 8080"

BIN := .venv/bin
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
# The extras that `make serve` installs: all but the large ones that no example needs. CrewAI alone is 690 MB.
SERVE := --extra llm --extra grpc --extra mcp --extra otel --extra ssh
PARALLEL := --numprocesses 5 --dist loadfile --no-loadscope-reorder
DATA := AIPARTNERUPFLOW_DATA_DIR=build/data

# Debian has nginx in /usr/sbin, which is not on the PATH of users.
export PATH := $(PATH):/usr/sbin

# The tests start hundreds of processes; without cached byte code each would compile the whole server.
export PYTHONDONTWRITEBYTECODE :=

.NOTPARALLEL:
.PHONY: always install serve conformance-server mcp-conformance testing benching test nightly faults check fmt bench bench-peers mutants reference release-check sbom audit docs lock

install: .venv/installed

.venv/installed: always # the script compares contents, not times
	@sh scripts/set-up dev

# What `make serve` installs: `serve`, or `all` with every optional executor.
SET ?= serve

.venv/serving: always
	@sh scripts/set-up $(SET)

# The tests also need programs that are not on PyPI, and so do the benchmarks.
testing:
	@sh scripts/set-up dev chromium nginx pgbouncer systemd-analyze dockerd busybox

benching:
	@sh scripts/set-up dev wrk

serve: .venv/serving
	@$(BIN)/aipartnerupflow serve $(ARGS)

# For a run of the A2A project's conformance kit; see docs/reference/a2a.md.
conformance-server: install
	@AIPARTNERUPFLOW_A2A_MESSAGE_HANDLER=tests.a2a.conformance.decide \
	AIPARTNERUPFLOW_EXECUTORS_MODULES=tests.a2a.conformance \
	AIPARTNERUPFLOW_WEBHOOKS_ALLOW_PRIVATE=true \
	AIPARTNERUPFLOW_DATA_DIR=build/conformance \
	$(BIN)/aipartnerupflow serve $(ARGS)

# The conformance suite of MCP, with its fixtures; see docs/how-to/mcp.md.
mcp-conformance: install
	$(BIN)/python -m pytest -m nightly -rP tests/interop/test_mcp_conformance.py $(ARGS)

test: testing
	@sh scripts/run-tests $(ARGS)

nightly: testing
	$(BIN)/python -m pytest -m "nightly and not faults" -rP $(ARGS)
	TEST_ENGINE=postgres $(BIN)/python -m pytest -m "nightly and both_engines and not faults" -rP $(ARGS)
	TEST_ENGINE=postgres $(BIN)/python -m pytest $(PARALLEL) -m both_engines_nightly $(ARGS)
	TEST_SIZES=full HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest $(PARALLEL) -m "sized or hypothesis" $(ARGS)
	RULES_SCRIPTS=all RULES_EXAMPLES=500 $(BIN)/python -m pytest tests/tasks/rules/test_rules.py $(ARGS)
	TEST_ENGINE=postgres RULES_SCRIPTS=all RULES_EXAMPLES=500 $(BIN)/python -m pytest tests/tasks/rules/test_rules.py $(ARGS)

# Hours. Some tests need root, and the Debian packages iproute2 and libfaketime; see docs/contributing/tests.md.
faults: testing
	$(BIN)/python -m tests.faults $(ARGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(DATA) $(BIN)/mypy
	$(BIN)/lint-imports
	$(DATA) $(BIN)/python manage.py makemigrations --check --dry-run

fmt: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: benching
	$(BIN)/python -m benchmarks.engine $(ARGS)
	$(BIN)/python -m benchmarks.http $(ARGS)
	$(BIN)/python -m benchmarks.mcp $(ARGS)
	$(BIN)/python -m benchmarks.commands
	$(BIN)/python -m benchmarks.live $(ARGS)
	$(BIN)/python -m benchmarks.pools
	$(BIN)/python -m benchmarks.models
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.schedules
	$(BIN)/python -m benchmarks.pages

# Installs the other systems into build/peers on first use.
bench-peers: benching
	$(BIN)/python -m benchmarks.peers $(ARGS)

mutants: install
	$(BIN)/python scripts/seeded_bugs.py $(ARGS)

# Writes docs/reference/settings.md and docs/config.example.yaml from the declared settings, executors.md from the executors, and
# the types of both clients from the methods, and the app of MCP hosts (a2a/mcp/app) from clients/mcp-app.
reference: install
	$(BIN)/python -m apflow_site.config.reference
	$(BIN)/python scripts/executor_reference.py
	$(BIN)/python scripts/client_types.py
	$(BIN)/python scripts/file_schemas.py
	DJANGO_SETTINGS_MODULE=apflow_site.settings $(BIN)/python -m tests.clients.typescript
	$(BIN)/python -m tests.clients.mcp_app

# What a release consists of; see docs/contributing/release.md.
release-check: sbom
	$(BIN)/python -m pytest -m nightly -rP tests/test_release.py $(ARGS)

sbom: install
	@mkdir -p build
	$(BIN)/python scripts/licences.py > build/licences.txt
	$(BIN)/uv run --quiet --no-project --with-requirements requirements/release.txt python scripts/sbom.py build/sbom.cdx.json

# Needs the JSON API of PyPI itself, which most mirrors do not have. With --strict, a package that it cannot look up is an error.
audit: install
	@$(BIN)/uvx --quiet pip-audit==2.10.1 --strict --disable-pip --require-hashes $(patsubst %,--requirement %,$(wildcard requirements/*.txt)) || \
		{ echo "Not audited, or not clean: each vulnerability is listed above. After an ERROR, run this where PyPI's JSON API can be reached." >&2; exit 1; }

docs: install
	$(BIN)/mkdocs build

# The tests run with dev.txt, so what people serve with has the same versions.
lock: install
	$(LOCK) pyproject.toml --extra all --extra ray --extra pydantic-ai --extra openai-agents --group dev --output-file requirements/dev.txt
	$(LOCK) pyproject.toml --output-file requirements/base.txt
	$(LOCK) pyproject.toml --extra all --constraint requirements/dev.txt --output-file requirements/all.txt
	$(LOCK) pyproject.toml $(SERVE) --constraint requirements/dev.txt --output-file requirements/serve.txt
	$(LOCK) --group build --constraint requirements/dev.txt --output-file requirements/build.txt
	$(LOCK) --group release --output-file requirements/release.txt
