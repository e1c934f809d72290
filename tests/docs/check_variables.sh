#!/bin/sh
# In the source folder ($1): the table of variables has every variable that the code reads and no other, and README.md
# has the table. $2: awk.
set -eu
cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
table=src/base/variables.def

"$2" -f docs/man/variables.awk -v form=names "$table" | sort >"$work/table"
[ "$(grep -c '^VARIABLE(' "$table")" -eq "$(sort -u "$work/table" | wc -l)" ]

# A name that code reads stands there as a text of its own. Tests may also name variables that do not exist.
grep -rhoE '"SHMCCL_[A-Z0-9_]+"' src bench --include='*.[ch]' --include='*.cpp' --include='*.cu' | tr -d '"' >"$work/code"
grep -rhoE '"SHMCCL_TEST_[A-Z0-9_]+"' tests --include='*.[ch]' | tr -d '"' >>"$work/code"
sort -u "$work/code" >"$work/sorted"
if ! diff "$work/table" "$work/sorted"; then
  echo "< only in $table; > only in the code: a row for each variable, no other row" >&2
  exit 1
fi

"$2" -f docs/man/variables.awk -v form=markdown "$table" >"$work/wanted"
"$2" '/^\| variable \|/ { inside = 1 } /^$/ { inside = 0 } inside' README.md >"$work/readme"
if ! diff "$work/readme" "$work/wanted"; then
  echo "README.md's table of settings is not what docs/man/variables.awk makes of $table: see CONTRIBUTING.md" >&2
  exit 1
fi
