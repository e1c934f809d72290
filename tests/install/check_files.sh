#!/bin/sh
# What is installed: each header compiles alone; the library exports its list and nothing else; programs and libraries
# need at most glibc 2.35, nothing but libc, libm and hwloc, and name no path of this machine. Arguments: support.sh's,
# the C compiler, the C++ compiler, nm.
. "$(dirname "$0")/support.sh"
cc=$4 cxx=$5 nm=$6
prefix=$work/prefix
quiet "$cmake" --install "$build" --prefix "$prefix"
libraries=$(library_folder "$prefix")
newest_glibc=2.35

# Headers
for header in "$prefix"/include/*.h; do
  echo "#include <$(basename "$header")>" >"$work/alone.c"
  quiet "$cc" -std=c11 -Wall -Wextra -Werror -pedantic -fsyntax-only "-I$prefix/include" "$work/alone.c"
  quiet "$cxx" -x c++ -std=c++17 -Wall -Wextra -Werror -pedantic -fsyntax-only "-I$prefix/include" "$work/alone.c"
done

# Exports
quiet "$source/tests/compile/check_symbols.sh" "$libraries/libshmccl.so" "$nm" "$source/src/shmccl.map" "$prefix/include/shmccl.h"
[ "$(readlink "$libraries/libshmccl.so")" != "" ] || fail "libshmccl.so is no link"
readelf -d "$libraries/libshmccl.so" | grep -qE 'SONAME.*\[libshmccl\.so\.[0-9]+\]' || fail "no soname"

alien=$("$nm" --defined-only --extern-only --format=posix "$libraries/libshmccl.a" | awk 'NF > 1 { print $1 }' |
  grep -vE '^(shmccl|shmi)_' || true)
[ -z "$alien" ] || fail "libshmccl.a defines names that others may have: $alien"

# Needs. GLIBC_ABI_* are newer than their numbers say: glibc 2.36.
find "$prefix" -type f \( -path '*/bin/*' -o -name '*.so*' \) >"$work/binaries"
[ "$(wc -l <"$work/binaries")" -ge 3 ]
while read -r file; do
  needed=$(readelf -dW "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
  for library in $needed; do
    case $library in
      libc.so.6 | libm.so.6 | ld-linux* | libhwloc.so.* | libshmccl.so.*) ;;
      *) fail "$file needs $library" ;;
    esac
  done
  for version in $(readelf -VW "$file" | grep -oE 'GLIBC_[A-Z0-9._]+' | sort -u); do
    number=${version#GLIBC_}
    [ "$(printf '%s\n' "$number" "$newest_glibc" | sort -V | tail -1)" = "$newest_glibc" ] ||
      fail "$file needs $version: newer than glibc $newest_glibc"
  done
  paths=$(readelf -dW "$file" | sed -n 's/.*R\(UN\)\{0,1\}PATH.*\[\(.*\)\]/\2/p')
  case $paths in '' | '$ORIGIN/'*) ;; *) fail "$file looks for libraries in $paths" ;; esac
done <"$work/binaries"

# Every NCCL job would load a libnccl-net.so.
[ -s "$libraries/libnccl-net-shmccl.so" ] || fail "no plugin"
[ -s "$libraries/libshmccl-nccl.so" ] || fail "no front"
[ -z "$(find "$prefix" -name libnccl-net.so)" ] || fail "a libnccl-net.so is installed"

# Paths, in whatever file
for path in "$source" "$build" "$work"; do
  if grep -rlF -- "$path" "$prefix" >"$work/log"; then fail "$path is named in: $(cat "$work/log")"; fi
done

# Manual
for page in man1/shmccl-perf.1 man1/shmccl-info.1 man1/shmccl-doctor.1 man3/shmccl.3 man3/shmccl_allreduce.3 man7/shmccl.7; do
  [ -s "$prefix/share/man/$page" ] || fail "no $page"
done
