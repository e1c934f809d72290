#!/bin/sh
# cpack: the archive, unpacked, works; the Debian packages have what their names promise, depend on what they need, fit
# together and work from where they are unpacked. Arguments: support.sh's, cpack, the C compiler, pkg-config. The packages
# are of a build of their own, since Debian's folders differ.
. "$(dirname "$0")/support.sh"
cpack=$4 cc=$5 pkg_config=$6
cd "$work"

# .tar.gz
quiet "$cpack" --config "$build/CPackConfig.cmake" -G TGZ -B "$work/tgz"
archive=$(echo "$work"/tgz/shmccl-*.tar.gz)
mkdir unpacked
tar -xzf "$archive" -C unpacked
check_tools "$work/unpacked/$(basename "$archive" .tar.gz)"

# .deb
if ! command -v dpkg-deb >/dev/null; then
  echo "dpkg-deb is not here: .deb packages not checked"
  exit 77
fi
quiet "$cmake" -S "$source" -B "$work/build" --preset deb -DSHMCCL_CUDA=OFF
quiet "$cmake" --build "$work/build"
quiet "$cpack" --config "$work/build/CPackConfig.cmake" -B "$work/deb"
mkdir root
for package in libshmccl0 libshmccl-dev shmccl-tools; do
  file=$(echo "$work"/deb/"${package}"_*.deb)
  [ -f "$file" ] || fail "no package $package: $(ls "$work/deb")"
  field() { dpkg-deb -f "$file" "$1"; }
  [ "$(field Package)" = "$package" ] || fail "$file is called $(field Package)"
  [ "$(field Architecture)" = "$(dpkg --print-architecture)" ] || fail "$package is for $(field Architecture)"
  [ -n "$(field Maintainer)" ] && [ -n "$(field Description)" ] || fail "$package has no maintainer or description"
  dpkg-deb -c "$file" | grep -q "/usr/share/doc/$package/copyright$" || fail "$package has no copyright file"
  case $package in
    libshmccl0) wanted='^libc6 \(>= 2\.35\)$' ;;
    *) wanted="^libshmccl0 \(= $(field Version | sed 's/\./\\./g')\)$" ;;
  esac
  echo "$(field Depends)" | grep -qE "$wanted" || fail "$package depends on: $(field Depends)"
  dpkg-deb -x "$file" root
done
has() { dpkg-deb -c "$work/deb/$1"_*.deb | grep -qE "$2" || fail "$1 has no $2"; }
has libshmccl0 '/libshmccl\.so\.0 -> libshmccl\.so\.0\.'
has libshmccl0 '/libnccl-net-shmccl\.so$'
has libshmccl0 '/libshmccl-nccl\.so$'
has libshmccl-dev '/include/shmccl\.h$'
has libshmccl-dev '/libshmccl\.so -> libshmccl\.so\.0$'
has libshmccl-dev '/libshmccl\.a$'
has libshmccl-dev '/pkgconfig/shmccl\.pc$'
has libshmccl-dev '/shmcclConfig\.cmake$'
has libshmccl-dev '/man3/shmccl\.3$'
has shmccl-tools '/bin/shmccl-info$'
has shmccl-tools '/bin/shmccl-doctor$'
has shmccl-tools '/man1/shmccl-perf\.1$'
check_tools "$work/root/usr"

libraries=$(library_folder "$work/root/usr")
NCCL_NET_PLUGIN=$libraries/libnccl-net-shmccl.so root/usr/bin/shmccl-doctor >doctor.txt || true
grep -q "^ok *plugin\.loads *$libraries/libnccl-net-shmccl.so" doctor.txt || fail "the plugin does not load: $(cat doctor.txt)"
VLLM_NCCL_SO_PATH=$libraries/libshmccl-nccl.so SHMCCL_NCCL_LIB=/nonexistent root/usr/bin/shmccl-doctor >doctor.txt || true
grep -q "^failure *front\.loads *$libraries/libshmccl-nccl.so: SHMCCL_NCCL_LIB=/nonexistent is no NCCL" doctor.txt ||
  fail "the front does not load: $(cat doctor.txt)"
compile="-pthread -o program $(PKG_CONFIG_PATH=$libraries/pkgconfig "$pkg_config" --cflags --libs shmccl)"
# shellcheck disable=SC2086
quiet "$cc" "$here/consumer/consumer.c" $compile
[ "$(LD_LIBRARY_PATH=$libraries ./program)" = "sum 3" ] || fail "a program linked with the packages is wrong"
