#!/usr/bin/env bash
# Compares what print_layout ($1) says of NCCL's structs with the debugging information of the libnccl.so.2 under test. Skipped
# where that has none, or there is no gdb. Started by with_nccl.sh.
set -eu
ours=$("$1") || exit $?
command -v gdb >/dev/null || { echo "skipped: there is no gdb"; exit 77; }

commands=()
while read -r what _; do
  if [[ $what == *.* ]]; then
    commands+=(-ex "output (long)&((struct ${what%%.*} *)0)->${what#*.}" -ex 'echo \n')
  else
    commands+=(-ex "output (long)sizeof(struct $what)" -ex 'echo \n')
  fi
done <<<"$ours"
theirs=$(gdb -q -nx -batch "${commands[@]}" "$SHMCCL_TEST_NCCL" 2>&1)
if grep -q 'No symbol table\|No struct type named' <<<"$theirs"; then
  echo "skipped: $SHMCCL_TEST_NCCL has no debugging information"
  exit 77
fi
paste -d' ' <(echo "$ours") <(echo "$theirs") |
  awk '$2 != $3 || NF != 3 { print "differs:", $0; bad = 1 } END { print NR " facts compared"; exit bad }'
