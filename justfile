# Recipes for people and CI.

# List the recipes.
default:
    @just --list

# Show the nightly dashboard, call by call, through a gateway on loopback.
quickstart *ARGS:
    cargo run --release --example quickstart -- {{ARGS}}

# Run everything that must pass, as CI does.
ci:
    bash .ci/run

# Run all tests; installs their dependencies.
test:
    ./tests/run

# Fuzz the parser of untrusted first bytes; needs `cargo install cargo-fuzz`.
fuzz SECONDS="60":
    mkdir -p tests/fuzz/corpus/sniff
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz sniff \
        tests/fuzz/corpus/sniff tests/fuzz/seeds/sniff -- -max_total_time={{SECONDS}} -max_len=8192

# Check formatting and lints.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Check advisories, licences and bans.
deny:
    cargo deny --all-features check

# Build the documentation, with warnings denied.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Compare with other proxies, which it installs: 15 minutes, on a quiet machine.
compare *ARGS:
    bench/compare {{ARGS}}

# Measure the size of the relay, and its memory at rest and with many connections.
relay *ARGS:
    bench/relay {{ARGS}}

# Write the pages that are made from the source: docs/reasons.md, docs/resources.md and docs/catalog.md.
reference:
    cargo run -q -p countersign -- reasons -o markdown >docs/reasons.md.part && mv docs/reasons.md.part docs/reasons.md
    cargo run -q -p countersign -- schema -o markdown >docs/resources.md.part && mv docs/resources.md.part docs/resources.md
    cargo run -q -p countersign -- schema --catalog -o markdown >docs/catalog.md.part && mv docs/catalog.md.part docs/catalog.md

# Build the book of docs/ into target/book.
book:
    tests/.venv/bin/mdbook build docs

# Count the instructions of each part of a request; fails if they exceed the limits.
instructions:
    bench/instructions

# Run the load generator and print its table.
bench *ARGS:
    cargo build --release -p countersign
    cargo run --release -p countersign-bench -- {{ARGS}}
