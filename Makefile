# Each target does its own set-up (scripts/setup), which is a matter of a second once it has been done.
export PATH := $(PATH):/usr/sbin:/sbin
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test unit check words docs pictures reference deep threads soak truth verdict junk api judges bench compare swarm scaling fuzz releases systemd dist deb packages pcaps build clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

demo: ## two switches, two controllers and a mirror in network namespaces, natmirror between them (root)
	@scripts/setup --need-root
	@$(BIN)/natmirror demo

test: ## all tests, those in network namespaces too (root)
	@scripts/setup --need-root
	@$(BIN)/python -m tests.run_all

unit: ## the tests that need no root
	@scripts/setup
	@$(BIN)/pytest -m "not live"

check: ## linters, types, plain English, the site, and the C code, in which a warning is an error
	@scripts/setup
	scripts/words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	@$(MAKE) --no-print-directory docs
	NATMIRROR_STRICT=1 $(BIN)/python setup.py --quiet build_ext --force --build-lib build/strict --build-temp build/strict
	$(CC) -fsyntax-only -std=gnu11 -Wall -Wextra -Werror -Inatmirror -Itests/fuzz tests/fuzz/*.c

words: ## count sentences that read like riddles
	@scripts/words

# All pages, each time: one that has not changed would keep a navigation that has.
docs: ## the site in build/docs, for a browser: begin with build/docs/index.html; needs no network
	@scripts/setup
	@$(BIN)/sphinx-build --quiet --fresh-env --write-all --fail-on-warning --keep-going --nitpicky docs build/docs

pictures: docs ## take the pictures in docs/pictures again: the site's, the status page's, and those of natmirror top (root, five minutes)
	@scripts/setup --need-root
	@$(BIN)/python docs/screenshots.py
	@$(BIN)/python -m tests.live.page_pictures docs/pictures
	@$(BIN)/python -m bench.top_picture docs/pictures

reference: ## write docs/reference from the rules keys, the commands and the state that the code declares
	@scripts/setup
	@$(BIN)/python -m natmirror.reference

# The longest one first.
DEEP := $(addprefix tests/engine/, \
	test_simulation.py::test_both_gears_do_the_same_in_any_weather \
	test_hostile_peers.py \
	test_random_sessions.py \
	test_simulation.py::test_in_any_weather_the_mirrors_stream_is_the_clients \
	test_lies.py::test_no_mixture_of_lies_reaches_the_mirror \
	test_lies.py::test_no_lie_reaches_a_mirror_whose_copies_begin_again \
	test_explanation.py::test_a_new_connection_goes_where_the_explanation_says)
deep: ## 10,000 cases of the simulator, and as many random sessions, runs of hostile peers and of lies, and explanations (some hours)
	@scripts/setup
	@printf '%s\n' $(DEEP) | xargs -P "$$(nproc)" -n 1 $(BIN)/pytest -o faulthandler_timeout=0 --hypothesis-profile=deep --hypothesis-show-statistics

threads: ## the tests in network namespaces with one thread and with four (root, ten minutes)
	@scripts/setup --need-root
	@NATMIRROR_LIVE_THREADS=1 $(BIN)/pytest -m "live and not soak"
	@NATMIRROR_LIVE_THREADS=4 $(BIN)/pytest -m "live and not soak"

truth: ## the model of flow tables beside Open vSwitch: 10,000 random orders in each version of OpenFlow (root, three minutes)
	@scripts/setup --need-root
	@$(BIN)/python -m tests.live.truth

verdict: ## masters beside production, equal ones and ones with planted bugs: is each verdict right? (root, a quarter of an hour)
	@scripts/setup --need-root
	@status=0; \
	$(BIN)/python -m tests.live.verdict || status=1; \
	$(BIN)/python -m tests.live.verdict --production noisy --twin noisy2 --answers 500 noisy noisy noisybug || status=1; \
	$(BIN)/python -m tests.live.verdict --version 1.3 --production faucet --twin faucet2 --addresses 16 --answers 300 \
		faucet faucet faucetbug || status=1; \
	exit $$status

junk: ## other clients' latency while one sends junk; fails above twice the p99 without it (root, six minutes)
	@scripts/setup --need-root
	@$(BIN)/python -m bench.junk

api: ## is production slower while clients scrape the metrics, or flood the API? (root, half an hour)
	@scripts/setup --need-root
	@$(BIN)/python -m bench.api

judges: ## what does verdict: on cost with a thousand switches? (root, ten minutes, quiet machine)
	@scripts/setup --need-root
	@$(BIN)/python -m bench.judges

soak: ## sustained uploads, and throughput against loss beside the kernel's TCP; prints what it measures (root, minutes)
	@scripts/setup --need-root
	@$(BIN)/pytest -o faulthandler_timeout=0 -m soak -s

bench: ## beside the kernel, HAProxy, nginx and a script with dpkt; writes docs/benchmark.md (root, a quarter of an hour)
	@scripts/setup --need-root --bench
	@$(BIN)/python -m bench

# The base is what a branch is to be merged into: HEAD~1 would judge the last of its commits alone.
BASE ?= origin/main
compare: ## is the work tree, or NEW=, slower than the commit BASE=origin/main? ONLY="engine live" PAIRS=60 (root for live)
	@scripts/setup --bench
	@$(BIN)/python -m bench.compare --base "$(BASE)" $(if $(NEW),--new "$(NEW)") $(foreach one,$(ONLY),--only $(one)) $(if $(PAIRS),--pairs $(PAIRS))

swarm: ## a thousand OpenFlow switches by several ways to one controller; writes docs/swarm.md (root, five minutes)
	@scripts/setup --need-root --bench
	@$(BIN)/python -m bench.swarm

scaling: ## fleets of 2 to 64 active hosts, simulated; writes the tables of docs/scaling.md (a minute)
	@scripts/setup
	@$(BIN)/python -m bench.scaling

fuzz: ## the C code under libFuzzer and sanitizers for three minutes, then its tests under the same (ten minutes)
	@scripts/setup --fuzz
	@tests/fuzz/run
	@tests/fuzz/sanitize

releases: ## make demo and make test in fresh roots of Debian 12 and 13, made by debootstrap (root, an hour)
	@status=0; for release in bookworm trixie; do scripts/try-release $$release || status=1; done; exit $$status

systemd: ## the unit under a real systemd in a fresh root of Debian 12, made by debootstrap (root, five minutes)
	@scripts/setup --need-root
	@scripts/try-unit

dist: ## the source archive, and from it the wheel, in dist/
	@scripts/setup
	@$(BIN)/python setup.py --quiet sdist --dist-dir dist
	@$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist dist/natmirror-$$(sed -n 's/^__version__ = "\(.*\)"$$/\1/p' natmirror/__init__.py).tar.gz

deb: ## the Debian package, in dist/, for the Debian that this host runs (network; two minutes)
	@scripts/build-deb $(REVISION)

packages: ## make deb in fresh roots of Debian 12 and 13; the package installed, upgraded under traffic, removed (root, 20 minutes)
	@scripts/setup --need-root
	@status=0; for release in bookworm trixie; do scripts/try-package $$release || status=1; done; exit $$status

pcaps: ## record the captures in pcaps/ again, and what their replays give (root)
	@scripts/setup --need-root
	$(BIN)/python -m natmirror.lab.record pcaps

build: ## the environment in .venv with natmirror and its C extension
	@scripts/setup

clean: ## remove everything that was built, the environment too
	rm -rf .venv build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	rm -f natmirror/_ffi.c natmirror/_ffi.*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
