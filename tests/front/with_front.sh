#!/usr/bin/env bash
# Runs a program whose ranks use the front, and looks for lines that match patterns in what it writes to stderr.
#   with_front.sh [pattern...] -- program [arguments...]
set -u
patterns=()
while [ "$1" != -- ]; do patterns+=("$1"); shift; done
shift
said=$(mktemp)
trap 'rm -f "$said"' EXIT
"$@" 2> >(tee "$said" >&2)
status=$?
wait
[ $status = 0 ] || exit $status
for pattern in ${patterns[@]+"${patterns[@]}"}; do
  grep -qE "$pattern" "$said" || { echo "no line of the front matches: $pattern"; exit 1; }
done
