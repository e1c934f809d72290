#!/bin/sh
# shmccl-info ($1): nonsense is refused in one line, every value says where it came from, JSON is JSON ($2: cmake).
set -eu
info=$1 cmake=$2 here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for variable in $(env | sed -n 's/^\(SHMCCL_[A-Z_]*\)=.*/\1/p') RANK WORLD_SIZE OMPI_COMM_WORLD_RANK PMI_RANK SLURM_PROCID; do
  unset "$variable"
done

fail() {
  echo "$1" >&2
  cat "$work/out" "$work/err" >&2
  exit 1
}

# run CODE [NAME=value ...] -- [flag ...]: that exit code; output in $work/out and $work/err
run() {
  wanted=$1 code=0
  shift
  settings=
  while [ "$1" != -- ]; do settings="$settings $1" && shift; done
  shift
  # shellcheck disable=SC2086
  env $settings "$info" "$@" >"$work/out" 2>"$work/err" || code=$?
  [ "$code" -eq "$wanted" ] || fail "exit code $code instead of $wanted:$settings $*"
}
has() { grep -qE -- "$1" "$work/out" || fail "not in the output: $1"; }
lacks() { ! grep -qE -- "$1" "$work/out" || fail "in the output: $1"; }
says() { grep -qE -- "$1" "$work/err" || fail "not on standard error: $1"; }
lines() { [ "$(wc -l <"$work/$1")" -eq "$2" ] || fail "not $2 line(s) in $1"; }

# Bad flags: one line, nothing else.
for flags in --bogus -x ranks "--ranks" "--ranks 0" "--ranks 1" "--ranks 65" "--ranks -4" "--ranks 4x" "--ranks=" \
  "--ranks=99999999999999999999" "--json=yes" "--ranks 4 more" "--"; do
  # shellcheck disable=SC2086
  run 2 -- $flags
  lines err 1
  lines out 0
  says '^shmccl-info: '
done

run 0 -- --help
has '^usage: shmccl-info'
run 0 -- --version
has '^shmccl-info [0-9]+\.[0-9]+\.[0-9]+$'

# Everything at its default.
run 0 --
lines err 0
[ "$(LC_ALL=C tr -d '\000-\177' <"$work/out" | wc -c)" -eq 0 ] || fail "not ASCII"
! grep -q "$(printf '\033')" "$work/out" || fail "escape sequences in a pipe"
for heading in Machine 'Placement of 4 ranks' Settings 'Algorithms of 4 ranks' Build; do has "^$heading"; done
has '^  SHMCCL_TIMEOUT_MS +600000 +ms +default +600000$'
has '^  allreduce +to [0-9]+ +one-shot +beside its flag, one step$'
has '^ +above +two-shot +steps of '
lacks ' (environment|invalid) '

# From the environment, and from launchers.
run 0 SHMCCL_TIMEOUT_MS=1500 SHMCCL_ALGORITHM=two-shot SHMCCL_ISA=generic -- --ranks 2
has '^  SHMCCL_TIMEOUT_MS +1500 +ms +environment +600000$'
has '^  SHMCCL_ALGORITHM +two-shot +environment +auto$'
has '^  SHMCCL_ISA +generic +environment '
has ', generic kernels$'
has '^  allreduce .*two-shot'
lacks ' one-shot '
run 0 SHMCCL_CHUNK_BYTES=64K -- --ranks=8
has '^Placement of 8 ranks'
has 'steps of 64K$'
run 0 RANK=1 WORLD_SIZE=6 MASTER_PORT=1 --
has '^Placement of 6 ranks'
has '^  launcher +torchrun$'
has '^  SHMCCL_RANK +1 +launcher '
has '^  SHMCCL_NRANKS +6 +launcher '

# From a tuning file, which has two ranks only.
"$info" --json >"$work/json"
cat >"$work/tuning" <<END
shmccl-tuning 1
library $("$info" --version | sed 's/.* //')
cpu $(sed -n 's/.*"processor": "\([^"]*\)".*/\1/p' "$work/json")
cores $(sed -n 's/.*"cpus_online": \([0-9]*\).*/\1/p' "$work/json")
copy-gbs 10
cached-copy-gbs 50
handover-us 0.05
ranks 2
one-shot-most 4096
reduce-chunk 131072
copy-chunk 65536
allreduce 8 1
end
END
run 0 "SHMCCL_TUNING_FILE=$work/tuning" -- --ranks 2
lines err 0
has '^  one-shot-most +4096 +bytes +tuning file +by size$'
has '^ +to 4K +one-shot '
run 0 "SHMCCL_TUNING_FILE=$work/tuning" -- --ranks 3
has '^  one-shot-most +by size +bytes +default '

# Invalid, unknown, impossible: said, and the rest shown.
run 1 SHMCCL_CHUNK_BYTES=nonsense SHMCCL_ALGORITHM=ring SHMCCL_ISA=sse SHMCCL_DEBUG=chatty SHMCCL_TUNING_FILE=/nowhere --
lines err 3
for name in CHUNK_BYTES ALGORITHM ISA DEBUG TUNING_FILE; do has "^  SHMCCL_$name .*invalid "; done
has '^  allreduce '
run 0 SHMCCL_TIMEOUT=1 --
lines err 1
says 'SHMCCL_TIMEOUT is set but unknown.*did you mean SHMCCL_TIMEOUT_MS\?'
run 1 SHMCCL_SHM_DIR=/nowhere/at/all --
says '/nowhere/at/all does not exist'
has 'no such folder'
lacks '^  allreduce'
if [ -e /dev/full ]; then
  code=0
  "$info" >/dev/full 2>"$work/err" || code=$?
  [ "$code" -eq 1 ] && says 'cannot write'
fi

# JSON, also with what needs escaping in it.
run 0 -- --json --ranks 3
"$cmake" -D "file=$work/out" -D ranks=3 -P "$here/check_json.cmake"
SHMCCL_CHUNK_BYTES="$(printf '"\\\t\377')"
export SHMCCL_CHUNK_BYTES
run 1 -- --json
"$cmake" -D "file=$work/out" -D ranks=4 -P "$here/check_json.cmake"
