#!/usr/bin/env bash
# shmccl-perf beside the real NCCL that SHMCCL_TEST_NCCL names, on the stand-in: all results right, and NCCL's own log says
# that each way of measuring it is what it is called.
#   check_nccl.sh shmccl-perf folder-of-the-stand-in plugin libshmccl.so
set -eu
perf=$1 standin=$2 plugin=$3 library=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The plugin is found from where the library is.
mkdir -p "$work/lib/plugin"
ln -s "$library" "$work/lib/"
ln -s "$plugin" "$work/lib/plugin/"
fail() { echo "FAILED: $*"; cat "$work/out"; exit 1; }

# measured GPUS FLAGS...
measured() {
  local gpus=$1; shift
  rm -f "$work"/log.*
  SHMCCL_NCCL_LIB=${SHMCCL_TEST_NCCL:-} NCCL_DEBUG=INFO NCCL_DEBUG_FILE=$work/log.%p STANDIN_DEVICES=$gpus \
    LD_LIBRARY_PATH=$work/lib "$(dirname "$0")/../standin/nccl/with_nccl.sh" "$standin" \
    "$perf" -n 2 -w 1 --rounds 2 "$@" >"$work/out" 2>&1 || {
    status=$?
    [ $status != 77 ] || { cat "$work/out"; exit 77; }
    fail "$*: exit code $status"
  }
  ! grep -q -e WRONG -e 'Out of bounds values : [1-9]' "$work/out" || fail "$*: wrong results"
}

# ranks WORDS: how many processes of NCCL logged them.
ranks() { cat /dev/null "$work"/log.* | grep -q . || fail "NCCL logged nothing"; grep -l -e "$1" "$work"/log.* | wc -l; }

measured 2 --ranks 2 --peer nccl -b 1K -e 1K -d all -o sum all_reduce
[ "$(grep -c '^# Peer nccl-.*: NCCL ' "$work/out")" = 3 ] || fail "three ways"
[ "$(ranks 'via SHM/')" = 4 ] || fail "stock and tuned go through SHM: $(ranks 'via SHM/') ranks do"
[ "$(ranks 'via NET/shmccl/')" = 2 ] || fail "nccl-plugin goes through the plugin: $(ranks 'via NET/shmccl/') ranks do"
[ "$(ranks 'NCCL_MIN_NCHANNELS set by environment to 8')" = 2 ] || fail "two ranks are tuned"

measured 2 --ranks 2 --peer nccl -b 64K -e 64K all
measured 2 --ranks 2 -G 2 --peer nccl -b 1K -e 256K -f 256 all_reduce

measured 1 --ranks 2 --peer nccl -b 1K -e 1K all_reduce
[ "$(ranks 'via NET/shmccl/')" = 2 ] || fail "on one GPU the plugin is used"
grep -q 'model:nccl-shm: NOT MEASURED' "$work/out" || fail "on one GPU a model stands in"
