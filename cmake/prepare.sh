# prepare.sh - sourced by bench/run and tests/run: makes a bare Debian or Ubuntu machine able to build the project.
#
# prepare PACKAGE...  installs those of the Debian packages that are missing, with sudo where not root. Installs nothing,
# and asks for nothing, when all are there. On other systems it says what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

have_package() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# Something of this kind works, whichever package it came from.
have() {
  case $1 in
    gcc) command -v cc >/dev/null ;;
    g++) command -v c++ >/dev/null ;;
    libc6-dev) echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1 ;;
    ninja-build) command -v ninja >/dev/null ;;
    pkg-config) command -v pkg-config >/dev/null ;;
    cmake) command -v cmake >/dev/null ;;
    libhwloc-dev | libcmocka-dev) have pkg-config && { local name=${1#lib}; pkg-config --exists "${name%-dev}"; } ;;
    python3-*) /usr/bin/python3 -c "import ${1#python3-}" 2>/dev/null ;; # the module is called so too
    *) have_package "$1" ;;
  esac
}

prepare() {
  local missing=() sudo=()
  for package in "$@"; do have "$package" || missing+=("$package"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]} (Debian's names): install them with this system's package manager, then run again" >&2
    exit 2
  fi
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "missing: ${missing[*]}: run as root: apt-get install ${missing[*]}" >&2; exit 2; }
    sudo=(sudo)
  fi
  echo "# installing ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  for package in "${missing[@]}"; do
    have "$package" || { echo "$package was installed but does not work: see the lines above" >&2; exit 2; }
  done
}

# build PRESET [cmake arguments]: configures, compiles what changed. Quiet unless it fails.
build() {
  local preset=$1 log
  shift
  mkdir -p build
  log=build/$preset.log
  cmake --preset "$preset" "$@" >"$log" 2>&1 &&
    cmake --build --preset "$preset" >>"$log" 2>&1 || { cat "$log" >&2; echo "building $preset failed: see above" >&2; exit 1; }
}
