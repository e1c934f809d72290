#!/bin/sh
# Installs into a scratch prefix, moves it, and lets a foreign project use it there: find_package and pkg-config, C and
# C++, shared and static. Arguments: support.sh's, the C compiler, the C++ compiler, pkg-config.
. "$(dirname "$0")/support.sh"
cc=$4 cxx=$5 pkg_config=$6
quiet "$cmake" --install "$build" --prefix "$work/first"
mv "$work/first" "$work/moved here"
prefix="$work/moved here"
libraries=$(library_folder "$prefix")
expect_sum() { [ "$("$@")" = "sum 3" ] || fail "wrong: $*"; }

# find_package
version=$(sed -n 's/^Version: //p' "$libraries/pkgconfig/shmccl.pc")
quiet "$cmake" -S "$here/consumer" -B "$work/consumer" "-DCMAKE_PREFIX_PATH=$prefix" "-DWANTED=$version" \
  "-DCMAKE_C_COMPILER=$cc" "-DCMAKE_CXX_COMPILER=$cxx" -DCMAKE_BUILD_TYPE=Release
quiet "$cmake" --build "$work/consumer"
for program in c_shmccl cxx_shmccl c_static cxx_static; do expect_sum "$work/consumer/$program"; done
if "$cmake" -S "$here/consumer" -B "$work/newer" "-DCMAKE_PREFIX_PATH=$prefix" -DWANTED=999 >"$work/log" 2>&1; then
  fail "find_package(shmccl 999) succeeds"
fi
grep -q 'version' "$work/log" || fail "find_package(shmccl 999) does not say why it fails"

# pkg-config; a copy without the shared library, for those who want the static one
export PKG_CONFIG_PATH="$libraries/pkgconfig"
quiet "$pkg_config" --exists --print-errors "shmccl = $version"
cp "$here/consumer/consumer.c" "$work/consumer.cpp"
mkdir "$work/static"
cp "$libraries/libshmccl.a" "$work/static"
compile() { eval "quiet $*"; } # pkg-config quotes for a shell
for language in "$cc $here/consumer/consumer.c" "$cxx $work/consumer.cpp"; do
  compile "$language" -pthread -o "$work/shared" "$("$pkg_config" --cflags --libs shmccl)"
  expect_sum env "LD_LIBRARY_PATH=$libraries" "$work/shared"
  compile "$language" -pthread -o "$work/with_static" "-L$work/static" "$("$pkg_config" --static --cflags --libs shmccl)"
  expect_sum "$work/with_static"
done

check_tools "$prefix"
[ "$("$prefix/bin/shmccl-info" --version)" = "shmccl-info $version" ] || fail "the header's version is not $version"
