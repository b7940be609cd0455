# The commands of the project; CONTRIBUTING.md says when to use which.
.PHONY: run test test-page test-deploy fuzz chaos chaos-gateway failover fallback lint deps docs bench bench-gateway bench-page golden limits tools test-rolling bench-fleet bench-context test-alerts test-otel test-valkey rules image test-image deny sbom reproducible screenshots attacks sample

# Everything on this machine, with a mock LLM: make run ARGS="--llm URL --model NAME"
run:
	scripts/need-redis
	cargo build --release --locked -p storyfleet
	target/release/storyfleet up $(ARGS)

# All tests. Installs what they need: a Redis server, curl, and in .venv the official OpenAI SDK, `websockets`, `httpx-sse`.
test: tools
	cargo build --workspace --bins --locked
	cargo test --workspace --locked

# All that talks to Redis, on a Valkey that has the names of Redis and is first in PATH: the tests of bus and agent, and the system
# tests. It takes as long as they do in `make test`. Packages or some tests alone: make test-valkey TESTED="-p bus --test leases"
TESTED ?= -p bus -p agent -p system-tests
VALKEY = PATH="$(CURDIR)/target/tools/valkey:$$PATH"
test-valkey: tools
	scripts/need-valkey
	cargo build --workspace --bins --locked
	$(VALKEY) redis-server --version
	$(VALKEY) cargo test --no-fail-fast --locked $(TESTED)

# The page in a browser, its client, and clients of others. Installs Chromium; screenshots are kept in target/page.
test-page:
	scripts/need-redis
	scripts/need-browser
	cargo build --workspace --bins --locked
	cd gateway/web/tests && node --test --test-concurrency=2 --test-reporter=spec *.test.js

# What is in deploy/: every overlay rendered, each object against its schema, and against the rules of tests/deploy/policy.py.
# STORYFLEET_BINARIES names a folder of programs that are built already.
test-deploy:
	scripts/need-redis
	scripts/need-deploy
	[ -n "$(STORYFLEET_BINARIES)" ] || cargo build --workspace --bins --locked
	.venv/bin/python -B -m pytest -rs tests/deploy

# Workers of another version are replaced by these and back, under load, with a gateway of either. The other version is the last
# release, or a commit that is named: make test-rolling REF=HEAD~20 ARGS="--seed 7"
test-rolling:
	scripts/need-redis
	scripts/previous $(REF)
	cargo build --workspace --bins --locked
	target/debug/rolling --old target/previous $(ARGS)

# The pictures in docs/images, of the page and of top, after either looks otherwise.
screenshots:
	scripts/need-redis
	scripts/need-browser
	cargo build --workspace --bins --locked
	node gateway/web/tests/screenshots.js

# Metrics, alerts and the dashboard: rules against promtool, tables against the programs, and a real Prometheus beside a fleet that
# is broken in each way that an alert tells of. TESTS names some of them alone.
TESTS ?= tests/alerts
test-alerts:
	scripts/need-prometheus
	[ -n "$(STORYFLEET_BINARIES)" ] || cargo build --workspace --bins --locked
	.venv/bin/python -B -m pytest -rs --durations=5 $(TESTS)

# What a collector of OpenTelemetry is told of an action's way, by programs that are built with the feature `otel`: they are kept
# apart in target/otel. The features of dependencies are those of `make test`, so that only what has spans is compiled again.
TRACED = narrator dialogue moderator gateway
test-otel:
	scripts/need-redis
	cargo build --workspace --locked $(foreach bin,$(TRACED) mock-llm,--bin $(bin)) $(foreach bin,$(TRACED),--features $(bin)/otel)
	mkdir -p target/otel
	cd target/debug && cp $(TRACED) mock-llm ../otel/
	STORYFLEET_BINARIES=target/otel cargo test --workspace --locked --features system-tests/otel --test traces

# The alerts as the Prometheus Operator reads them. A file of kustomize cannot take another one in.
OPERATOR_RULES = deploy/k8s/components/prometheus-operator/rules.yaml
rules:
	sed -i '/^spec:$$/q' $(OPERATOR_RULES)
	sed -n '/^groups:$$/,$$p' deploy/prometheus/rules.yaml | sed 's/^./  &/' >> $(OPERATOR_RULES)

# The image of a program, by docker or buildah: make image BIN=gateway
BIN ?= narrator
image:
	scripts/image $(BIN)

# The same from a stand-in for the toolchain's image, without a registry, and then tried as shut in as pods are. Minutes; needs root.
test-image:
	scripts/need-redis
	scripts/need-deploy
	scripts/need-image
	cargo build --workspace --bins --locked
	scripts/test-image $(BIN)

# What dependencies may be: licences, sources, bans, advisories. Where there is no network: make deny CHECKS="bans licenses sources"
CHECKS ?= advisories bans licenses sources
deny:
	scripts/need-supply
	PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo deny --locked check $(CHECKS)

# What each program is made of, as CycloneDX: target/sbom/PROGRAM.cdx.json
sbom:
	scripts/need-supply
	PATH="$(CURDIR)/target/tools/bin:$$PATH" scripts/sbom

# Whether a program comes out the same from two folders. Builds a release twice: make reproducible BIN=gateway
reproducible:
	scripts/reproducible $(BIN)

# What clients send, by chance: frames, cursors, headers, queries. So many cases of each: make fuzz CASES=1000000
CASES ?= 20000
fuzz:
	PROPTEST_CASES=$(CASES) cargo test --workspace --lib --locked -- --nocapture property cursor credential stream::tests api::events verifier address

# Everything dies and freezes for a minute, then every action is accounted for: make chaos ARGS="--minutes 10 --seed 7"
chaos:
	scripts/need-redis
	cargo build --workspace --bins --locked
	target/debug/chaos $(ARGS)

# Every reader is cut off again and again, then each one's text is compared: make chaos-gateway ARGS="--cuts 50000 --seed 7"
chaos-gateway:
	scripts/need-redis
	cargo build --workspace --bins --locked
	target/debug/chaos-gateway $(ARGS)

# A master dies or freezes under a fleet: what was confirmed and is lost, and how long people waited. Nothing else should run:
# make failover ARGS="--topology sentinel --blow lag --wait-replicas 1"
failover:
	scripts/need-redis
	cargo build --workspace --bins --locked
	target/debug/failover $(ARGS)

# What many workers make of a model that grants so many tokens a minute: it must refuse nothing. 25 minutes as it is, and nothing
# else is needed of the machine: make limits ARGS="--lines 100 --tokens-per-minute 20000"
limits:
	scripts/need-redis
	cargo build --workspace --bins --locked
	target/debug/limits $(ARGS)

# A model that fails in every way with another one in its place, and ten workers: every line answered, no text spliced, and hardly
# more requests than calls. Seconds: make fallback ARGS="--lines 200 --faults 100"
fallback:
	scripts/need-redis
	cargo build --workspace --bins --locked
	target/debug/fallback $(ARGS)

# How often a model obeys what people write into a story to be obeyed, with the fence and without. It asks one thing after the
# other: make attacks ARGS="--llm http://127.0.0.1:8080/v1 --model tiny"
attacks:
	cargo build -p system-tests --bin attacks --locked
	target/debug/attacks $(ARGS)

# The demo story as a model tells it, as Markdown: make sample ARGS="--llm http://127.0.0.1:8080/v1 --model tiny" > sample.md
sample:
	@scripts/need-redis >&2
	@cargo build --workspace --bins --locked >&2
	@target/debug/sample $(ARGS)

# Where a prompt or what is made of answers was changed on purpose: takes how the golden stories go now for right.
golden:
	cargo build --workspace --bins --locked
	for story in tests/golden/*.ndjson; do for agent in narrator dialogue moderator; do \
		target/debug/$$agent replay --from-file $$story --accept || exit $$?; done; done

lint: deps
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Redis is known to bus alone, and the model's API to llm.
deps:
	scripts/only redis bus
	scripts/only async-openai llm

# What the guarantees cost here, against a bare loop. A minute; nothing else should run: make bench ARGS=--json
bench:
	scripts/need-redis
	cargo build --release --locked -p storyfleet -p dialogue -p mock-llm
	target/release/storyfleet bench --floor $(ARGS)

# What a reader costs here and how late they read, against a bare server. Three minutes; nothing else should run.
bench-gateway:
	scripts/need-redis
	cargo build --release --locked -p storyfleet
	target/release/storyfleet bench --gateway $(ARGS)

# Many workers and two gateways on one Redis, 16 shards against 1, memory of stories. Four minutes; nothing else should run.
bench-fleet:
	scripts/need-redis
	cargo build --release --locked -p storyfleet -p dialogue -p mock-llm
	target/release/storyfleet bench --fleet $(ARGS)

# How long it takes to build what a model is asked with. Seconds; nothing else should run.
bench-context:
	cargo build --release --locked -p storyfleet
	target/release/storyfleet bench --context $(ARGS)

# How soon the first words of 200 answers are on a browser's screen. Half a minute; nothing else should run.
bench-page:
	scripts/need-redis
	scripts/need-browser
	cargo build --release --locked -p narrator -p dialogue -p moderator -p gateway -p mock-llm -p storyfleet
	STORYFLEET_BINARIES=$(CURDIR)/target/release node gateway/web/tests/first-words.js $(ARGS)

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

tools:
	scripts/need-redis
	scripts/need-faketime
	scripts/need-sdk
