#!/bin/bash
# Runs every fuzz target for the given seconds (60 if not said) on stable Rust, without
# cargo-fuzz: usage: fuzz/run.sh [SECONDS]
# Exits with an error on the first crash; the input is then in fuzz/artifacts/TARGET/.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
host=$(rustc -vV | sed -n 's/^host: //p')

# The instrumentation cargo-fuzz asks for, less the address sanitizer: the code is safe Rust.
# `--target` keeps it away from build scripts and macros.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"
cargo build --locked --release --target "$host" --bins

# Seeds: every hexadecimal field of the golden packets, as bytes.
seeds=corpus/golden
mkdir -p "$seeds"
n=0
for hex in $(grep -o '_hex": "[0-9a-f]*"' ../tests/golden/vrrp.json | cut -d'"' -f3); do
    printf '%b' "$(sed 's/../\\x&/g' <<<"$hex")" >"$seeds/$n"
    n=$((n + 1))
done
[ "$n" -gt 0 ]
# And every configuration there is, good or broken.
cp ../conf/*.toml ../tests/config/*.toml "$seeds"
# And a table of HAProxy's.
printf '# pxname,svname,status,check_status,type,\nb,s,UP 1/2,"* L4OK",2,\n' >"$seeds/haproxy"

for source in fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    mkdir -p "corpus/$target" "artifacts/$target"
    echo "== $target, ${seconds} s"
    "target/$host/release/$target" -max_total_time="$seconds" -timeout=5 -max_len=8192 \
        -print_final_stats=1 -artifact_prefix="artifacts/$target/" "corpus/$target" "$seeds"
done
