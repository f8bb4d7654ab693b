# Two commands matter: `make demo` and `make test`. Both set up .venv first, from nothing.

PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 4
TOOLS := wrk prometheus promtool prometheus-alertmanager amtool chromium chromedriver systemd-analyze docker-compose nginx strace ip victoria-metrics
PACKAGES := wrk prometheus prometheus-alertmanager chromium chromium-driver systemd docker-compose nginx strace iproute2 victoria-metrics

.PHONY: demo test test-all faults lint release-check coverage mutation bench soak compatibility matrix pythons screenshot dashboard dashboard-picture tools clean

demo: .venv/installed
	@exec $(BIN)/python sample_configs/demo.py

test: .venv/dev lint tools
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m 'not slow and not by_hand' $(ARGS)

# Also the tests of what is around the package, which take a minute each: alerts, dashboard, other exporters beside it.
test-all: .venv/dev lint tools
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m 'not by_hand' $(ARGS)

# All faults of system and library calls, each at the first use, at a later one and at every use: most of an hour.
faults: .venv/dev tools
	$(BIN)/pytest -n $(JOBS) --dist worksteal tests/integration/test_faults.py tests/integration/test_faults_kernel.py $(ARGS)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Builds wheel and sdist twice, in two folders, and compares and checks them. The result is in dist.
release-check: .venv/dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	again=$$(mktemp -d) && trap 'rm -rf "$$again"' EXIT && git archive HEAD | tar x -C "$$again" && \
		$(BIN)/python -m build --no-isolation --outdir "$$again/dist" "$$again" && \
		for file in dist/*; do cmp "$$file" "$$again/$$file" || exit 1; done
	$(BIN)/twine check --strict dist/*
	$(BIN)/pytest tests/integration/test_release.py tests/integration/test_typing.py

# Lines and branches of the package that the tests run, in masters and workers too. Without the tests that trace
# instructions themselves. Failures do not end it: time limits are not made for this.
coverage: export COVERAGE_FILE = $(CURDIR)/dist/coverage/data
coverage: .venv/dev tools
	rm -rf dist/coverage
	mkdir -p dist/coverage
	-$(BIN)/coverage run -m pytest -n $(JOBS) --dist worksteal -m 'not slow and not by_hand' -p no:cacheprovider \
		--ignore-glob='*test_instructions.py' --ignore-glob='*test_interrupted_anywhere.py' \
		--ignore-glob='*test_killed_writers.py' --ignore-glob='*test_speed.py' $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

# Small changes of the modules that count, one at a time; those that their tests do not notice are printed. Hours for all:
# make mutation ARGS="exit_reason labels".
mutation: .venv/dev
	$(BIN)/python -m tests.helpers.mutation $(ARGS)

# Measures everything beside other exporters, some 30 minutes on a machine that does nothing else, and writes
# docs/benchmarks.md with its pictures, and the figures in README.md and docs. Sections alone: make bench ARGS="turns loop".
bench: .venv/dev tools
	$(BIN)/python -m benchmarks $(ARGS)

# Ten minutes of faults under load, beside gunicorn without this package. Some arguments: make soak ARGS="--seed 7 --minutes 3"
soak: .venv/dev
	$(BIN)/python -m tests.soak $(ARGS)

# Writes the tables of docs/compatibility.md anew, from real runs.
compatibility: .venv/dev
	$(BIN)/python -m tests.helpers.compatibility

# Writes the tables of docs/compatibility.md about versions of gunicorn, Python and dependencies anew, from real runs.
matrix: .venv/dev
	$(BIN)/python -m tests.helpers.matrix

# Interpreters for the matrix that are missing, from Debian.
pythons: .venv/dev
	$(BIN)/python -m tests.helpers.pythons

# The README's picture of the status page; the same in dark and as on a phone go to dist, to be looked at.
screenshot: .venv/dev tools
	mkdir -p dist
	$(BIN)/python -m tests.helpers.screenshot dist
	cp dist/status.png docs/status.png

# The dashboard for Grafana.
dashboard: .venv/dev
	json=$$($(BIN)/python sample_configs/grafana/dashboard.py) && printf "%s\n" "$$json" > sample_configs/grafana/gunicorn.json

# The README's picture of the dashboard, drawn with matplotlib from its queries on real servers.
dashboard-picture: .venv/dev tools
	$(BIN)/python -m tests.helpers.dashboard_picture docs/dashboard.png

# Programs that some tests run. Where they cannot be installed those tests are skipped, or fail if CI is set.
tools:
	@for tool in $(TOOLS); do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends $(PACKAGES); \
	else \
		echo "missing:$$missing; the tests that need them will be skipped"; \
	fi

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e .
	@touch $@

.venv/dev: .venv/installed
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .benchmarks .matrix dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
