# `just` alone lists what there is to do. Everything here is also a plain command: just is sugar.
set positional-arguments

export PATH := justfile_directory() / ".tools/bin:" + env("PATH")

[private]
default:
    @"{{just_executable()}}" --justfile "{{justfile()}}" --list --unsorted

# Recipes build first, with cargo's progress, and then run: the first build takes minutes.

# Run a scenario:  just sim scenario=blocked-bootstrap [seed=7] [peers=5000] [key=value ...]
[group('simulate')]
[no-exit-message]
sim *params:
    @cargo build --release --locked -p phantom-sim
    @cargo run --quiet --release --locked -p phantom-sim -- run "$@"

# Play a stored run again and compare its digest:  just replay RUN_DIR
[group('simulate')]
[no-exit-message]
replay *params:
    @cargo build --release --locked -p phantom-sim
    @cargo run --quiet --release --locked -p phantom-sim -- replay "$@"

# List the scenarios and what each shows
[group('simulate')]
[no-exit-message]
scenarios:
    @cargo run --quiet --release --locked -p phantom-sim -- list

# The merge gate: every scenario tagged ci at the size of its [ci], over a fixed list of seeds
[group('simulate')]
[no-exit-message]
check *params:
    @cargo build --release --locked -p phantom-sim
    @cargo run --quiet --release --locked -p phantom-sim -- check "$@"

# The table (metrics.csv) and the picture (timeline.svg) of the latest run:  just report [RUN_DIR]
[group('simulate')]
[no-exit-message]
report dir="store/latest":
    @cargo run --quiet --release --locked -p phantom-reports -- "{{dir}}"

# Play a small scenario with the real programs over the simulated links and the same censor (root, Linux):  just emulate scenario=policed-connect [key=value ...]
[group('simulate')]
[no-exit-message]
emulate *params:
    @cargo build --release --locked -p phantom-sim -p phantom-node -p phantom-client
    @"${CARGO_TARGET_DIR:-target}/release/phantom-sim" emulate "$@"

# A network of real processes on loopback: messages, a blocked entry, a way in through the DHT and a friend
[group('run')]
[no-exit-message]
demo *params:
    @./deploy/demo/run "$@"

# All tests (fast suite)
[group('check')]
test *params:
    @cargo nextest run --locked --workspace --no-fail-fast "$@"

# Real storage nodes are killed while boxes are written, then everything acknowledged is read:  just kill9 [kills]
[group('check')]
kill9 kills="50":
    @PHANTOM_KILLS="{{kills}}" cargo test --locked -p phantom-node --test kill9_network -- --nocapture

# A debug and a release build must play a scenario to the same digest:  just digests [first-look] [key=value ...]
[group('check')]
[no-exit-message]
digests *params:
    #!/usr/bin/env bash
    set -euo pipefail
    store="$(mktemp -d)"
    trap 'rm -rf "$store"' EXIT
    digest() {
        local build="$1" line status=0
        shift
        cargo build --locked -p phantom-sim $build
        line="$(cargo run --quiet --locked -p phantom-sim $build -- run "$@" --json --out "$store")" || status=$?
        # A violated promise has a digest as well; anything else is no run.
        [ "$status" -le 1 ] || return "$status"
        sed -E 's/.*"trace_digest":"([0-9a-f]+)".*/\1/' <<<"$line"
    }
    [ $# -gt 0 ] || set -- first-look
    debug="$(digest "" "$@")"
    release="$(digest --release "$@")"
    printf 'debug:   %s\nrelease: %s\n' "$debug" "$release"
    if [ "$debug" != "$release" ]; then
        echo "NOT the same: $*" >&2
        exit 1
    fi

# obfs4 beside obfs4proxy on loopback, both ways: 200 handshakes, 1 kB to 10 MB ten times, iat-mode 0 to 2 (apt-get install obfs4proxy)
[group('check')]
interop-obfs4 handshakes="200" repeats="10":
    @PHANTOM_INTEROP_HANDSHAKES="{{handshakes}}" PHANTOM_INTEROP_REPEATS="{{repeats}}" cargo test --release --locked -p phantom-client --test interop_obfs4 -- --nocapture --test-threads 1
    @cargo test --release --locked -p phantom-obfs4 --test obfs4proxy -- --ignored --skip records --nocapture

# webtunnel and meek on loopback, ours and obfs4proxy's meek_lite, with their throughput beside obfs4's; TLS beside OpenSSL's
[group('check')]
interop-web:
    @cargo test --release --locked -p phantom-client --test interop_web -- --nocapture --test-threads 1
    @cargo test --release --locked -p phantom-web --test openssl

# When paths are changed and when not: every story over 200 seeds, the two-hour ones among them (some ten minutes of processor time)
[group('check')]
rotation *params:
    @cargo test --release --locked -p phantom-rotation "$@" -- --include-ignored --nocapture

# Formatting and lints
[group('check')]
lint:
    @cargo fmt --all --check
    @cargo clippy --locked --workspace --all-targets -- -D warnings

# The documentation of all crates, without a broken link
[group('check')]
doc:
    @RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items --quiet

# Fuzz one target, or all, for some seconds each:  just fuzz [target] [seconds]   (nightly Rust, a C++ compiler, cargo-fuzz)
[group('check')]
fuzz target="all" seconds="30":
    #!/usr/bin/env bash
    set -euo pipefail
    found=
    for crate in core sim; do
        cd "{{justfile_directory()}}/$crate"
        for target in $(cargo +nightly fuzz list); do
            [ "{{target}}" = all ] || [ "{{target}}" = "$target" ] || continue
            found=1
            mkdir -p "fuzz/corpus/$target"
            cargo +nightly fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
                -max_total_time={{seconds}} -rss_limit_mb=1024 -timeout=10 -max_len=8192 -print_final_stats=1
        done
    done
    [ -n "$found" ] || { echo "no target is called {{target}}" >&2; exit 2; }

# Write the fuzz targets' seeds anew, and check that each is accepted
[group('check')]
fuzz-seeds:
    @for crate in core sim; do \
        RUSTFLAGS="--cfg fuzzing" cargo test --quiet --release --manifest-path $crate/fuzz/Cargo.toml --lib || exit 1; \
        RUSTFLAGS="--cfg fuzzing" cargo run --quiet --release --manifest-path $crate/fuzz/Cargo.toml --example seeds || exit 1; \
    done

# The madsim witness: its cfg needs a target folder of its own
[group('check')]
madsim *params:
    @RUSTFLAGS="--cfg madsim" cargo test --locked -p phantom-sim --target-dir target/madsim --test conformance_madsim --test witnesses_madsim "$@"

# Censors that ask a model: what runs models is built for this alone, 154 crates
[group('check')]
models *params:
    @cargo test --locked -p phantom-script --features model --target-dir target/models "$@"

# blocked-bootstrap on every witness of this build, one after the other (turmoil takes two minutes: its tick costs hosts cubed, hence few DHT nodes)
[group('check')]
[no-exit-message]
witnesses peers="24":
    @for runtime in swarm paused turmoil; do echo "== $runtime"; cargo run --quiet --release --locked -p phantom-sim -- run blocked-bootstrap peers={{peers}} dht-nodes=8 --runtime "$runtime" || exit 1; done

# The engine's own figures, as ratios against its peers in one run
[group('measure')]
[no-exit-message]
bench-engine *params:
    @RUSTFLAGS="--cfg madsim" cargo build --release --locked -p phantom-sim --bin phantom-sim --target-dir target/madsim
    @cargo run --quiet --release --locked -p phantom-sim -- bench "$@"

# Simulated transfers beside this machine's kernel (root, Linux):  just fidelity --grid fresh [--seed 7] [--from FILE] ...
[group('measure')]
[no-exit-message]
fidelity *params:
    #!/usr/bin/env bash
    set -euo pipefail
    said="$(mktemp)"
    trap 'rm -f "$said"' EXIT
    status=0
    cargo run --quiet --release --locked -p phantom-sim -- fidelity "$@" | tee "$said" || status=$?
    # A missed bar has a picture as well.
    dir="$(sed -n 's/^written to //p' "$said")"
    [ -z "$dir" ] || cargo run --quiet --release --locked -p phantom-reports -- "$dir"
    exit "$status"

# Connect and message times of real programs beside the simulator's, with their intervals (root, Linux; over an hour):  just emulate-compare [repeats=20]
[group('measure')]
[no-exit-message]
emulate-compare repeats="20" scenario="policed-connect":
    @nice -n -15 "{{just_executable()}}" --justfile "{{justfile()}}" emulate "{{scenario}}" --repeats "{{repeats}}" --compare

# Costs of links, packets, boxes, the store and lookups (Criterion)
[group('measure')]
bench:
    @cargo bench --no-fail-fast --manifest-path core/yardstick/Cargo.toml
