# support.sh - sourced by the other scripts here. What they get: the build folder, the source folder, cmake, then what
# each of them says.
set -eu
build=$1 source=$2 cmake=$3
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for variable in $(env | sed -n 's/^\(SHMCCL_[A-Z_]*\)=.*/\1/p'); do unset "$variable"; done
unset DESTDIR LD_LIBRARY_PATH CMAKE_PREFIX_PATH PKG_CONFIG_PATH RANK OMPI_COMM_WORLD_RANK PMI_RANK SLURM_PROCID

fail() {
  echo "$*" >&2
  exit 1
}

# quiet COMMAND...: its output only if it fails
quiet() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "failed: $*"; }; }

# The folder in prefix $1 that libshmccl.so.* lies in.
library_folder() {
  found=$(find "$1" -name 'libshmccl.so.*.*')
  [ -n "$found" ] && [ "$(echo "$found" | wc -l)" -eq 1 ] || fail "not one library in $1: $found"
  dirname "$found"
}

# The tools in prefix $1 work; flags of shmccl-perf are for a short run.
check_tools() {
  "$1/bin/shmccl-info" --ranks 2 >"$work/info" || fail "shmccl-info fails in $1"
  grep -q '^  allreduce ' "$work/info" || fail "shmccl-info shows no algorithms in $1"
  "$1/bin/shmccl-perf" --ranks 2 -b 8 -e 1K -f 128 --no-pin >"$work/perf" || fail "shmccl-perf fails in $1"
  grep -q '# Out of bounds values : 0 OK' "$work/perf" || fail "shmccl-perf is wrong in $1"
}
