#!/bin/sh
# libnccl-net-shmccl.so ($1; nm is $2) exports what its version script ($3) lists, is never unloaded, and needs libc only.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$2" -D --defined-only --format=posix "$1" | awk '$2 != "A" { print $1 }' | sort >"$work/exported"
sed -n 's/^ *\(nccl[A-Za-z0-9_]*\);$/\1/p' "$3" | sort >"$work/listed"
[ -s "$work/exported" ]
diff "$work/exported" "$work/listed"
readelf -d "$1" >"$work/dynamic"
grep -q NODELETE "$work/dynamic"
# libm and the loader come with libc; a sanitizer's run-time library with its build.
! sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' "$work/dynamic" | grep -vE '^(libc|libm|ld-linux.*|lib[atu]b?san)\.so'
