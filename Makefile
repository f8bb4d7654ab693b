# Two commands matter: `make demo` and `make test`. Both set up .venv first, from nothing.

PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 4
TOOLS := wrk prometheus promtool prometheus-alertmanager chromium chromedriver systemd-analyze ip victoria-metrics
PACKAGES := wrk prometheus prometheus-alertmanager chromium chromium-driver systemd iproute2 victoria-metrics

.PHONY: demo test test-all lint bench bench-generations compatibility screenshot dashboard dashboard-picture tools clean

demo: .venv/installed
	@exec $(BIN)/python sample_configs/demo.py

test: .venv/dev lint tools
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m 'not slow' $(ARGS)

# Also the tests of what is around the package, which take a minute each: alerts, dashboard, other exporters beside it.
test-all: .venv/dev lint tools
	$(BIN)/pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev tools
	$(BIN)/python -m benchmarks.loop
	$(BIN)/python -m benchmarks.worker
	$(BIN)/python -m benchmarks.turns
	$(BIN)/python -m benchmarks.cpu
	$(BIN)/python -m benchmarks.workers
	$(BIN)/python -m benchmarks.app_metrics
	$(BIN)/python -m benchmarks.page

bench-generations: .venv/dev tools
	$(BIN)/python -m benchmarks.generations
	$(BIN)/python -m benchmarks.app_generations

# Writes the tables of docs/compatibility.md anew, from real runs.
compatibility: .venv/dev
	$(BIN)/python -m tests.helpers.compatibility

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
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
