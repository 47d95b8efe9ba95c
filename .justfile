# `just` lists these.
_default:
    @just --list --unsorted

# Format, lints and documentation.
check:
    cargo fmt --check
    cargo clippy --release --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --locked

# All tests, in the environment of `just setup`.
test *args:
    eval "$(tests/run setup)" && cargo test --release --locked {{ args }}

# Accept what the snapshot tests print now.
bless *args:
    eval "$(tests/run setup)" && INSTA_UPDATE=always cargo test --release --locked {{ args }}

# Serve a work tree.
dev *args:
    cargo run --release --locked -- run --worktree {{ args }}

# Measure, as ratios against baselines of the same run.
bench *args:
    cargo bench --locked {{ args }}

# Engine, images and tools of the tests, left running.
setup:
    tests/run setup

# End what `just setup` started.
teardown:
    tests/run teardown
