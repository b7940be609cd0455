# The commands of the project; CONTRIBUTING.md says when to use which.
.PHONY: test lint docs tools

# All tests. Installs what they need: a Redis server, the official OpenAI SDK.
test: tools
	cargo test --workspace --locked

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

tools:
	scripts/need-redis
	scripts/need-sdk
