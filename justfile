# `just` lists what there is.
flags := "--locked --ignore-rust-version"

default:
    @just --list

# The whole river once, on sample data.
demo:
    cargo run {{flags}} -p millrace -- demo

# All stages in one process on this machine.
dev *ARGS:
    cargo run {{flags}} -p millrace -- dev {{ARGS}}

# Every test, with the servers it needs.
test *ARGS:
    ./test {{ARGS}}

# Whether the binary builds with each stage alone.
one-stage:
    for stage in ingest extract reverse-etl deliver warehouse-loader; do cargo check {{flags}} -p millrace --no-default-features --features "$stage" || exit 1; done

# What ingest costs, workload by workload (w1 to w7; all if none is named), beside its floors.
bench-ingest *ARGS:
    cargo build {{flags}} --release -p millrace-bench
    "${CARGO_TARGET_DIR:-target}/release/millrace-bench" run {{ARGS}}

# What loading a warehouse costs, beside its floors and peers (needs Kafka, PostgreSQL and Python; --help after it says more).
bench-warehouse *ARGS:
    cargo build {{flags}} --profile measure -p millrace -p millrace-bench
    "${CARGO_TARGET_DIR:-target}/measure/millrace-bench" warehouse --peers "$(bash integration-tests/bench/peers/prepare.sh)" {{ARGS}}

# What delivering to destinations costs, beside its floors; and whether one is in another's way, and a limit is kept.
bench-deliver *ARGS:
    cargo build {{flags}} --profile measure -p millrace-bench
    "${CARGO_TARGET_DIR:-target}/measure/millrace-bench" deliver {{ARGS}}

# Instructions per event of ingest's own code; --check fails on 3 % more than recorded, --record records. Needs valgrind.
bench-instructions *ARGS:
    cargo build {{flags}} --release -p millrace-bench
    "${CARGO_TARGET_DIR:-target}/release/millrace-bench" instructions {{ARGS}}

# Kills ingest so often under load (./test does it ten times), before a Kafka of KAFKA_BROKERS or the embedded broker.
kill-ingest ROUNDS="100":
    cargo build {{flags}} -p millrace
    MILLRACE_TEST_ROUNDS={{ROUNDS}} cargo test {{flags}} -p millrace-integration-tests --test it kill_ingest -- --nocapture

# Kills a loader so often at any moment, and once and again at each crash point, before a lake and before a PostgreSQL of
# MILLRACE_TEST_POSTGRES (./test does it 20 times).
kill-loader ROUNDS="200":
    cargo build {{flags}} -p millrace
    MILLRACE_TEST_ROUNDS={{ROUNDS}} cargo test {{flags}} -p millrace-integration-tests --test it kill_loader -- --nocapture

# Kills deliver so often at any moment, and once at each crash point, while its receiver fails now and then (./test does it ten times).
kill-deliver ROUNDS="100":
    cargo build {{flags}} -p millrace
    MILLRACE_TEST_ROUNDS={{ROUNDS}} cargo test {{flags}} -p millrace-integration-tests --test it kill_deliver -- --nocapture

# Rebalances so often while items fail and are tried again (./test does it four times).
rebalance-deliver ROUNDS="100":
    MILLRACE_TEST_ROUNDS={{ROUNDS}} cargo test {{flags}} -p millrace-deliver --test it members -- --nocapture

# Kills a PostgreSQL of its own so often under a loader, in the middle of COPY and of COMMIT (./test does it five times).
kill-postgres ROUNDS="50":
    cargo build {{flags}} -p millrace
    MILLRACE_TEST_ROUNDS={{ROUNDS}} cargo test {{flags}} -p millrace-integration-tests --test it kill_postgres -- --nocapture

# Stops, kills and wakes a Kafka under load so often, for up to 30 s each time (./test does it three times, for less).
outages ROUNDS="20":
    cargo build {{flags}} -p millrace
    MILLRACE_TEST_ROUNDS={{ROUNDS}} cargo test {{flags}} -p millrace-integration-tests --test it broker_outage -- --nocapture

# Fuzzes ingest_body, event_wire or privacy_scan. Needs `cargo install cargo-fuzz --locked` and a C++ compiler, and no nightly
# toolchain: there is no unsafe code of ours for a sanitizer to watch.
fuzz TARGET SECONDS:
    mkdir -p "${CARGO_TARGET_DIR:-target}/fuzz/corpus/{{TARGET}}"
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/fuzz" cargo fuzz run --fuzz-dir integration-tests/fuzz --sanitizer none {{TARGET}} \
        "${CARGO_TARGET_DIR:-$PWD/target}/fuzz/corpus/{{TARGET}}" integration-tests/fuzz/corpus/{{TARGET}} -- \
        -max_total_time={{SECONDS}} -max_len=4096 -timeout=10 -dict=integration-tests/fuzz/{{TARGET}}.dict -print_final_stats=1

# What continuous integration checks before the tests.
lint:
    cargo fmt --all --check
    cargo clippy {{flags}} --workspace --all-targets -- -D warnings
    cargo deny --offline check bans licenses sources
    deploy/lint.sh

# Rewrites the files that golden tests hold equal to the code.
golden:
    UPDATE_GOLDEN=1 cargo test {{flags}} -p millrace-event-model
