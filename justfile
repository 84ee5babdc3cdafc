# The recipes people and CI run.

# List the recipes.
default:
    @just --list

# The nightly dashboard, call by call, through a gateway on loopback.
quickstart *ARGS:
    cargo run --release --example quickstart -- {{ARGS}}

# Everything that must pass, as CI runs it.
ci:
    bash .ci/run

# All tests; installs what they need.
test:
    ./tests/run

# What looks at untrusted first bytes, fuzzed for a while; needs `cargo install cargo-fuzz`.
fuzz SECONDS="60":
    mkdir -p tests/fuzz/corpus/sniff
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz sniff \
        tests/fuzz/corpus/sniff tests/fuzz/seeds/sniff -- -max_total_time={{SECONDS}} -max_len=8192

# Formatting and lints.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Advisories, licences, bans.
deny:
    cargo deny --all-features check

# The documentation, with warnings denied.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The product beside its peers, which it installs: a quarter of an hour, on a quiet machine.
compare *ARGS:
    bench/compare {{ARGS}}

# Counts the instructions of each piece of a request, and fails where they are more than is allowed.
instructions:
    bench/instructions

# The load generator's table.
bench *ARGS:
    cargo build --release -p countersign
    cargo run --release -p countersign-bench -- {{ARGS}}
