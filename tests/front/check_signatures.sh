#!/bin/sh
# symbols.def (in $1/front) declares NCCL's functions as NCCL's own headers do: each argument and result as wide, and passed
# alike. Needs the headers that belong to SHMCCL_TEST_NCCL, and CUDA's; skipped without.
set -eu
skip() { echo "skipped: $*"; exit 77; }
nccl=${SHMCCL_TEST_NCCL:-}
[ -n "$nccl" ] || skip "SHMCCL_TEST_NCCL names no libnccl.so.2"
include=$(dirname "$nccl")/../include
cuda=${CUDA_HOME:-/usr/local/cuda}/include
[ -f "$include/nccl.h" ] || skip "there is no nccl.h beside $nccl"
[ -f "$cuda/cuda_fp16.h" ] || skip "there are no CUDA headers"
command -v g++ >/dev/null || skip "there is no g++"
checks=$(mktemp)
trap 'rm -f "$checks"' EXIT
for name in $("$(dirname "$0")/print_symbols.sh" "$1/front/symbols.def"); do
  if grep -qE "\bnccl$name\(" "$include/nccl.h"; then echo "CHECK($name)"; fi
done >"$checks"
[ "$(wc -l <"$checks")" -gt 30 ]
g++ -std=c++17 -DNCCL_OS_LINUX -fsyntax-only -Wno-deprecated-declarations -I"$include" -isystem "$cuda" -I"$1" -DCHECKS="\"$checks\"" \
  "$(dirname "$0")/signatures.cc"
