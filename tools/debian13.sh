#!/usr/bin/env bash
# Builds mach on Debian 13, with that release's compiler and libraries, none of them pinned, in a root
# file system of its own, and has the program generate a few tokens there: what other versions of
# everything make of the sources. Needs root; the first time it fetches about 400 MB.
#
# usage: tools/debian13.sh [DIR]   DIR keeps the root file system; default build/debian13
set -euo pipefail
cd "$(dirname "$0")/.."

root=$(realpath -m "${1:-build/debian13}")
((EUID == 0)) || { echo "debian13.sh: needs root" >&2; exit 1; }

if [[ ! -f $root/complete ]]; then
  command -v debootstrap >/dev/null || {
    echo "debian13.sh: debootstrap is missing; install it: apt-get install debootstrap" >&2
    exit 1
  }
  # The mirror that this machine uses.
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' | head -n 1)
  rm -rf "$root"
  mkdir -p "$root"
  debootstrap --variant=minbase trixie "$root" "$mirror"
  # Of another release some packages carry another version in their name.
  packages=$(awk '$1 == "build" { sub(/=.*/, "", $2); print $2 }' tools/debian-packages.txt |
    sed -e '/^g++-12$/d' -e 's/^libboost1.81-dev$/libboost-dev/')
  # shellcheck disable=SC2086  # one argument for each package
  DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get -q -y install --no-install-recommends $packages
  touch "$root/complete"
fi

# Crates come with the certificates and settings of this machine, which the other one lacks.
cargo fetch -q --locked --manifest-path src/grammar/llguidance/Cargo.toml
crates=${CARGO_HOME:-$HOME/.cargo}

cache=$(ccache --get-config cache_dir 2>/dev/null || echo "${HOME}/.cache/ccache")
mkdir -p "$root/src" "$root/ccache" "$root/crates" "$cache"
trap 'umount -q "$root/src/build" "$root/src" "$root/ccache" "$root/crates" "$root/proc" || true' EXIT
mkdir -p "$root/build" "$root/crates-build" build
mount --bind "$PWD" "$root/src"
mount -o remount,ro,bind "$root/src"
mount --bind "$root/crates-build" "$root/src/build"
mount --bind "$cache" "$root/ccache"
mount --bind "$crates" "$root/crates"
mount -t proc proc "$root/proc"
chroot "$root" env CCACHE_DIR=/ccache CCACHE_BASEDIR=/src CCACHE_NOHASHDIR=1 \
  CARGO_HOME=/crates CARGO_NET_OFFLINE=true MACH_WERROR="${MACH_WERROR:-}" bash -euc '
    cmake -S /src -B /build -G Ninja -DCMAKE_BUILD_TYPE=Release -DMACH_UNITE=8 -DMACH_TESTS=OFF
    cmake --build /build --target mach
    /build/bin/mach synth --shape tiny --out /tmp/tiny --force
    /build/bin/mach generate /tmp/tiny -p "Hello" --max-tokens 8
    g++ --version | head -n 1'
