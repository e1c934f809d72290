#!/bin/sh
# Runs the README's example ($1) as two processes and compares what they print; then without ranks, which it must refuse.
# In the source folder ($2) README and example must be the same text.
set -eu
unset RANK OMPI_COMM_WORLD_RANK PMI_RANK SLURM_PROCID SHMCCL_RANK
output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT

sed -n '/^#include/,$p' "$2/tests/examples/readme.c" >"$output/example"
awk '/^```c$/ { inside = 1; next } inside && /^```/ { exit } inside' "$2/README.md" >"$output/readme"
diff "$output/readme" "$output/example"

export SHMCCL_ID="readme-$$" SHMCCL_NRANKS=2

SHMCCL_RANK=1 "$1" >"$output/1" &
second=$!
SHMCCL_RANK=0 "$1" >"$output/0"
wait "$second"
[ "$(cat "$output/0")" = "rank 0 of 2: 2 20 200 1" ]
[ "$(cat "$output/1")" = "rank 1 of 2: 2 20 200 1" ]

if "$1" 2>"$output/refusal"; then exit 1; fi
grep -q "no launcher in the environment" "$output/refusal"
