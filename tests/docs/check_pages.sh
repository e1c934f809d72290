#!/bin/sh
# The manual pages in folder $1, as built, against the source folder $2: every public function, variable and flag is on
# its page. Further arguments: the tools, whose names are those of their pages.
set -eu
pages=$1 source=$2
shift 2

fail() {
  echo "$1" >&2
  exit 1
}

plain() { sed 's/\\-/-/g; s/\\f[BR]//g' "$1"; }

plain "$pages/shmccl.3" >"$pages/test.plain"
functions=$(sed -n 's/^ *\(shmccl_[a-z_]*\);$/\1/p' "$source/src/shmccl.map")
[ -n "$functions" ]
for function in $functions; do
  grep -qE "^[a-z].*[ *]$function\(" "$pages/test.plain" || fail "shmccl(3) does not declare $function"
  sed -n '/^\.SH NAME/,/^\.SH SYN/p' "$pages/test.plain" | grep -qw "$function" || fail "$function is not in shmccl(3)'s NAME"
  [ "$(cat "$pages/$function.3")" = ".so man3/shmccl.3" ] || fail "$function(3) does not lead to shmccl(3)"
done

plain "$pages/shmccl.7" >"$pages/test.plain"
for variable in $(sed -n 's/^VARIABLE(\([A-Z_]*\),.*/\1/p' "$source/src/base/variables.def" | grep -v SHMCCL_TEST_); do
  grep -qx "\.B $variable" "$pages/test.plain" || fail "shmccl(7) has no entry of $variable"
done

for tool in "$@"; do
  page=$pages/$(basename "$tool").1
  plain "$page" >"$pages/test.plain"
  flags=$("$tool" --help | grep -oE '^ +(-[a-zA-Z], )?--[a-z][a-z_-]*' | grep -oE -- '-[a-zA-Z-][a-z_-]*')
  [ -n "$flags" ]
  for flag in $flags; do
    grep -qE -- "^\.B (.*[ ,])?$flag([ ,]|$)" "$pages/test.plain" || fail "$page has no entry of $flag"
  done
done
rm -f "$pages/test.plain"

command -v groff >/dev/null || exit 0
for page in "$pages"/shmccl*.[1-7]; do
  case $(cat "$page") in .so*) continue ;; esac
  warnings=$(groff -man -Tutf8 -ww -z "$page" 2>&1 | grep -v "can't break line" || true)
  [ -z "$warnings" ] || fail "$page: $warnings"
done
