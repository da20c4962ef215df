# What there is to do with this project: `make` lists it.

CARGO ?= cargo
PREFIX ?= /usr
DESTDIR ?=
# Where `make install` takes the binaries from.
BUILD ?= target/release
# Of `make bench`: --faults N, --json, --check.
BENCH ?=
# Seconds for each target of `make fuzz`.
FUZZ_TIME ?= 60
# Of `make storm-lab`: how long, and which storm; a fresh one without a seed.
SECONDS ?= 600
SEED ?=
# Schedules of `make storm`.
STORM ?= 1000000

bindir = $(DESTDIR)$(PREFIX)/bin
mandir = $(DESTDIR)$(PREFIX)/share/man/man8
bashdir = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
docdir = $(DESTDIR)$(PREFIX)/share/doc/vipd
unitdir = $(DESTDIR)/lib/systemd/system
confdir = $(DESTDIR)/etc/vipd

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help deps root cargo build release demo test test-unit test-netns test-fuzz test-slow storm-lab model storm bench fuzz lint install clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

deps: ## install the Debian packages the tests need; none of their daemons starts
	@scripts/deps.sh

root:
	@scripts/root.sh $(or $(filter demo test bench test-slow test-netns storm-lab,$(MAKECMDGOALS)),test)

cargo:
	@command -v $(firstword $(CARGO)) >/dev/null || { \
	    echo "cargo is not in the PATH: install Rust from https://rustup.rs;" >&2; \
	    echo 'under sudo, run: sudo -E env "PATH=$$PATH" make $(MAKECMDGOALS)' >&2; exit 1; }

build: cargo ## vipd, vipctl, the demo and the benchmark, quick to build
	@$(CARGO) build --locked --workspace --bins

release: cargo
	@$(CARGO) build --locked --release --workspace --bins

demo: root cargo deps release ## three load balancers in namespaces, failed in several ways (root)
	@target/release/demo

test: root cargo deps test-unit test-netns test-fuzz ## everything but what takes minutes (root)

test-unit: cargo
	@$(CARGO) test --locked --no-fail-fast --package vipd

# One at a time: these tests measure time, and every daemon of theirs is real.
test-netns: root cargo build
	@$(CARGO) test --locked --no-fail-fast --package netns-tests -- --test-threads=1

# Long enough to find what a parser forgot yesterday; `make fuzz` looks longer.
test-fuzz: cargo
	@fuzz/run.sh 5

test-slow: test ## everything, then thousands of bad nights, longer fuzzing, more resets and cuts of power (root)
	@VIPD_SEEDS=5000 $(CARGO) test --locked --release --package vipd --test sim
	@fuzz/run.sh 60
	@$(CARGO) test --locked --package netns-tests --test watchdog --test pairs --test controllers \
	    -- --ignored --test-threads=1

model: cargo ## the lease, searched further than by `cargo test`: a table of scenes and mutants
	@VIPD_MODEL=long $(CARGO) test --locked --release --package vipd --test model -- \
	    --nocapture --test-threads=1

storm: cargo ## a million schedules of groups held by lease, STORM=1000000 of them; prints the rate
	@VIPD_STORM=$(STORM) $(CARGO) test --locked --release --package vipd --test sim -- \
	    --ignored --exact --nocapture lease::storm::storm

bench: root cargo deps release ## vipd against keepalived, interleaved: outages, CPU, memory (root)
	@target/release/bench $(BENCH)

storm-lab: root cargo deps build ## real daemons in a storm of faults, SECONDS=600 of it, SEED=... repeats one (root)
	@VIPD_STORM_SECONDS=$(SECONDS) VIPD_STORM_SEED=$(SEED) $(CARGO) test --locked --package netns-tests \
	    --test storm in_a_storm -- --nocapture

fuzz: cargo ## every parser, FUZZ_TIME=60 seconds each
	@fuzz/run.sh $(FUZZ_TIME)

lint: cargo ## formatting, clippy, shellcheck; warnings are errors
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@if command -v shellcheck >/dev/null; then \
	    shellcheck scripts/*.sh .ci/run fuzz/run.sh; fi

install: ## binaries, unit, example, manual; DESTDIR and PREFIX are obeyed; make release first
	install -Dm755 $(BUILD)/vipd $(bindir)/vipd
	install -Dm755 $(BUILD)/vipctl $(bindir)/vipctl
	install -Dm644 systemd/vipd.service $(unitdir)/vipd.service
	install -Dm644 systemd/vipd-gate.service $(unitdir)/vipd-gate.service
	install -Dm644 systemd/vipd-witness.service $(unitdir)/vipd-witness.service
	sed -i 's|=/usr/bin/|=$(PREFIX)/bin/|' $(unitdir)/vipd.service $(unitdir)/vipd-witness.service
	install -Dm644 systemd/vipd.sysusers $(DESTDIR)/usr/lib/sysusers.d/vipd.conf
	install -Dm644 systemd/50-vipd.rules $(DESTDIR)/usr/share/polkit-1/rules.d/50-vipd.rules
	install -d $(mandir) $(bashdir)
	$(BUILD)/vipctl man $(mandir)
	$(BUILD)/vipctl completions bash >$(bashdir)/vipctl
	$(BUILD)/vipctl completions bash vipd >$(bashdir)/vipd
	install -Dm644 systemd/vipd-watchdog.conf $(docdir)/examples/vipd-watchdog.conf
	install -Dm644 systemd/vipd-watchdog.rules $(docdir)/examples/vipd-watchdog.rules
	install -Dm644 conf/vipd.toml $(docdir)/examples/vipd.toml
	install -Dm644 conf/minimal.toml $(docdir)/examples/minimal.toml
	install -Dm644 conf/active-active.toml $(docdir)/examples/active-active.toml
	install -Dm644 -t $(docdir) docs/*.md README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE
	install -Dm644 conf/vipd.schema.json $(DESTDIR)$(PREFIX)/share/vipd/vipd.schema.json
	install -d $(confdir)

clean: ## what cargo built
	@$(CARGO) clean
