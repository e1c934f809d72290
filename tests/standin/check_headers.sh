#!/bin/sh
# The stand-in's CUDA headers (next to this script) say what the toolkit's ($2: its include folder) say: every value, size
# and offset as numbers printed by one program compiled with either, every declaration by a compiler that sees both. $1: C compiler.
set -eu
ours=$(dirname "$0")/include
[ -f "$2/cuda_runtime_api.h" ] || { echo "skipped: no CUDA headers in $2"; exit 77; }
version=$(sed -n 's/^#define CUDART_VERSION *\([0-9]*\).*/\1/p' "$2/cuda_runtime_api.h")
[ "$((version / 1000))" -eq 13 ] || { echo "skipped: CUDA $version, and this is the ABI of CUDA 13"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Enumerators and numbers as they are; of each struct the size and the fields whose names do not end in '_'.
facts() {
  awk '
    function field(name) { if (name !~ /_$/) printf "  FIELD(%s, %s);\n", type, name }
    /^#define [cC][uU][a-zA-Z_]* +\(?\(?i?n?t?\)?-?[0-9]/ { printf "  VALUE(%s);\n", $2 }
    { line = $0
      if (line ~ /^(typedef )?enum /) { gsub(/.*\{/, " ", line); in_enum = $0 !~ /\}/ ; listed = 1 } else listed = in_enum
      if (in_enum && $0 ~ /^\}/) in_enum = 0
      while (listed && match(line, /c[uU][A-Za-z0-9_]* =|CU[A-Z0-9_]* =/)) {
        printf "  VALUE(%s);\n", substr(line, RSTART, RLENGTH - 2)
        line = substr(line, RSTART + RLENGTH) } }
    /^(typedef )?(struct|union) [A-Za-z_0-9]+ \{/ { type = ($1 == "typedef") ? $2 " " $3 : $1 " " $2; printf "  SIZE(%s);\n", type }
    /^\}/ { type = "" }
    type != "" && /^  [^ ].*;/ { line = $0; sub(/;.*/, "", line); gsub(/\[[^]]*\]/, "", line)
      n = split(line, names, ","); for (i = 1; i <= n; i++) { sub(/.*[ *}]/, "", names[i]); if (names[i] != "") field(names[i]) } }
  ' "$ours/cuda_runtime_api.h" "$ours/cuda.h"
}
cat >"$work/facts.c" <<'END'
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stdio.h>
#define VALUE(name) printf("%s = %lld\n", #name, (long long)name)
#define SIZE(type) printf("%s: %zu bytes\n", #type, sizeof(type))
#define FIELD(type, name) printf("%s.%s at %zu\n", #type, #name, offsetof(type, name))
int main(void) {
END
facts >>"$work/facts.c"
echo '}' >>"$work/facts.c"
[ "$(wc -l <"$work/facts.c")" -gt 400 ]
"$1" -std=c11 -I"$ours" "$work/facts.c" -o "$work/ours"
"$1" -std=c11 -I"$2" "$work/facts.c" -o "$work/theirs"
"$work/ours" >"$work/ours.txt"
"$work/theirs" >"$work/theirs.txt"
diff "$work/ours.txt" "$work/theirs.txt"

{ echo '#include <cudaTypedefs.h>'
  echo '#include <cuda_runtime_api.h>'
  echo "#include \"$(realpath "$ours")/cudaTypedefs.h\""
  echo "#include \"$(realpath "$ours")/cuda_functions.h\""; } >"$work/both.c"
"$1" -std=c11 -Wno-deprecated-declarations -fsyntax-only -I"$2" "$work/both.c"
