#!/bin/sh
# shmccl-perf on the stand-in: ranks as processes and threads, on one GPU and on two, calls and graphs, every element
# verified; JSON; flags that do not fit, and no GPU.
perf=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

complain() { echo "FAILED: $*"; cat "$work/out"; failed=1; }

# runs GPUS FLAGS...: every element is right.
runs() {
  gpus=$1; shift
  STANDIN_DEVICES=$gpus timeout 60 "$perf" -n 2 -w 1 -N 1 "$@" >"$work/out" 2>&1 || complain "$gpus GPUs, $*: exit code $?"
  grep -q 'Out of bounds values : 0 OK' "$work/out" || complain "$gpus GPUs, $*: not all right"
  grep -q '^# GPU 0: ' "$work/out" || complain "$gpus GPUs, $*: not on a GPU"
}

# refuses GPUS WORDS FLAGS...
refuses() {
  gpus=$1 words=$2; shift 2
  STANDIN_DEVICES=$gpus timeout 60 "$perf" -e 8 "$@" >"$work/out" 2>&1
  [ $? = 2 ] || complain "$*: not refused"
  grep -q -e "$words" "$work/out" || complain "$*: does not say '$words'"
}

for gpus in 1 2; do
  runs $gpus --ranks 2 -b 8 -e 64K -f 64 all
  runs $gpus -t 4 -b 1K -e 4K -f 4 -d all -o sum all_reduce
  runs $gpus --ranks 2 -G 2 -b 1K -e 32K -f 32 all
done
runs 2 -t 2 -I 1 -b 4K -e 4K all_reduce
runs 2 --ranks 2 -m 3 -b 4K -e 4K sendrecv
runs 2 --ranks 2 -b 4K -e 4K --json "$work/json" all_reduce
grep -q 'Stand-in GPU 1' "$work/json" || complain "JSON does not name the GPUs"

refuses 1 'must be host or cuda' --memory gpu
refuses 1 'graphs are for ranks on GPUs' -G 2 --memory host
refuses 1 'one of them' -G 2 -I 1
refuses 1 'openmpi is for host memory' --memory cuda --peer mpi
refuses 0 'no GPU can be used' --memory cuda
STANDIN_DEVICES=0 timeout 60 "$perf" -e 8 -n 2 --ranks 2 all_reduce >"$work/out" 2>&1 || complain "without a GPU: exit code $?"
exit $failed
