#!/bin/sh
# What libshmccl.so ($1, with nm being $2) exports is what the version script ($3) lists is what shmccl.h ($4) declares.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$2" -D --defined-only --format=posix "$1" | awk '$2 != "A" { sub(/@.*/, "", $1); print $1 }' | sort >"$work/exported"
sed -n 's/^ *\(shmccl_[a-z_]*\);$/\1/p' "$3" | sort >"$work/listed"
# Declarations may be broken over lines: the name is what stands before the bracket after SHMCCL_API.
tr '\n' ' ' <"$4" | sed 's/SHMCCL_API/\n&/g' | sed -n 's/^SHMCCL_API [^(;]*[ *]\(shmccl_[a-z_]*\)(.*/\1/p' | sort >"$work/declared"
[ -s "$work/exported" ]
diff "$work/exported" "$work/listed"
diff "$work/exported" "$work/declared"
