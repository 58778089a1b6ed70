SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help run test bench bench-check soak fmt build-deps

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Options of the demo, as in: make run DEMO="--dns 127.0.0.1:5301"
DEMO ?=
# More arguments for the comparison, as in: make bench BENCH="--tasks dns-hit --rounds 3"
BENCH ?=
# Steps of the storm on a scripted Consul; deployments, kills and failovers of that on a Marathon.
STORM_STEPS ?= 10000
# A round of the soak is ten seconds for each server of each task.
SOAK_ROUNDS ?= 40

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build-deps ## build, and start the demo
	cargo build --locked --release
	$(TARGET)/release/portolan demo $(DEMO)

# Two profiles are built: dev for the tests, release for the short comparison. A third one, lighter
# than release, would build nearly all of it a third time (every dependency, optimised) to save the
# linking, would measure a program that nobody runs, and `make run` would then build release anew.
test: build-deps ## format, lints, docs, all tests, and a short comparison
	scripts/install-peers --debian
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --doc
	cargo test --locked --lib --bins --tests --no-fail-fast
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	cargo bench --locked --bench stages -- --smoke
	cargo bench --locked --bench render -- --smoke
	cargo bench --locked --bench compare -- --smoke

bench: build-deps ## what a change costs, and a comparison with the servers that Portolan replaces
	scripts/install-peers
	cargo bench --locked --bench stages
	cargo bench --locked --bench render -- --compare
	cargo bench --locked --bench compare -- $(BENCH)

bench-check: build-deps ## the same, held to benches/compare/bounds.toml
	scripts/install-peers
	cargo bench --locked --bench stages -- --check
	cargo bench --locked --bench render -- --check
	cargo bench --locked --bench compare -- --check $(BENCH)

soak: build-deps ## about an hour of load (the tables show the memory after the first and the last round), 100,000 templates judged by Go, 1,000 deaths while files are written, hostile HTTP
	scripts/install-peers --debian
	PORTOLAN_FULL=1 PORTOLAN_STORM_STEPS=$(STORM_STEPS) \
		cargo test --locked --release --test it -- --nocapture --test-threads 1 \
		consul_ dns_express checks::ten_thousand \
		confd:: flow:: metadata render_catalog restart::
	cargo test --locked --test it -- --ignored --nocapture go_grammar
	cargo test --locked --test it -- --ignored --nocapture testssl
	PORTOLAN_FULL=1 PORTOLAN_STORM_STEPS=$(STORM_STEPS) \
		cargo test --locked --release --test it -- --nocapture --test-threads 1 marathon_storm
	cargo bench --locked --bench stages -- --marathon --check
	PORTOLAN_FULL=1 cargo test --locked --test it render_crash -- --nocapture
	PORTOLAN_FULL=1 cargo test --locked --release --test it -- --nocapture --test-threads 1 rolling
	PORTOLAN_FULL=1 cargo test --locked --release --test it -- --nocapture --test-threads 1 tcp_stream
	PORTOLAN_FULL=1 cargo test --locked --release --test it -- --nocapture --test-threads 1 upgrade::
	PORTOLAN_FULL=1 cargo test --locked --release --test it -- --nocapture --test-threads 1 ingress ports:: udp::
	PORTOLAN_FULL=1 cargo test --locked --test it -- go_limits
	PORTOLAN_FULL=1 cargo test --locked --lib render::functions::rows_tests
	PORTOLAN_FULL=1 cargo test --locked --release --lib proxy::http
	PORTOLAN_FULL=1 cargo test --locked --test it http_beside_others -- --nocapture
	cargo bench --locked --bench compare -- --rounds $(SOAK_ROUNDS) --seconds 10 \
		--peers portolan,knot,haproxy --tasks dns-hit,http-keepalive,tcp-small $(BENCH)

fmt: ## format the code
	cargo fmt --all

build-deps:
	@scripts/install-build-deps
