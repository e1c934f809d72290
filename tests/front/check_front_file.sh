#!/bin/sh
# libshmccl-nccl.so ($1; nm is $2) exports every function that symbols.def ($3) lists, under both of NCCL's names, and the
# mark of a front; is never unloaded, and needs libc only.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$2" -D --defined-only --format=posix "$1" | awk '$2 != "A" { print $1 }' | sort >"$work/exported"
"$(dirname "$0")/print_symbols.sh" "$3" | sed 's/.*/nccl&\npnccl&/' >"$work/names"
echo shmccl_nccl_front >>"$work/names"
sort "$work/names" >"$work/listed"
[ "$(wc -l <"$work/listed")" -gt 160 ]
diff "$work/exported" "$work/listed"
readelf -d "$1" >"$work/dynamic"
grep -q NODELETE "$work/dynamic"
# libm, librt and the loader come with libc; a sanitizer's run-time library with its build.
! sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' "$work/dynamic" | grep -vE '^(libc|libm|librt|libdl|libpthread|ld-linux.*|lib[atu]b?san)\.so'
