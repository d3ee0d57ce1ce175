#!/usr/bin/env bash
# Unpacks the Debian packages that a cross build for 64-bit Arm links (profile arm64 of
# tools/debian-packages.txt) into build/arm64-packages. Needs no root and installs nothing: apt keeps
# lists of its own for the other architecture, so that these need not have the versions of ours.
#
# usage: tools/arm64_packages.sh
set -euo pipefail
cd "$(dirname "$0")/.."

out=build/arm64-packages
wanted=$(awk '$1 == "arm64" { print $2 }' tools/debian-packages.txt)
[[ ! -f $out/complete || $(<"$out/complete") != "$wanted" ]] || exit 0

rm -rf "$out"
mkdir -p "$out/apt/lists/partial" "$out/apt/archives/partial" "$out/debs"
: >"$out/apt/status"
apt=(apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=
  -o Acquire::Retries=5 -o Acquire::Languages=none -o APT::Update::Error-Mode=any
  -o Dir::State="$PWD/$out/apt" -o Dir::State::status="$PWD/$out/apt/status"
  -o Dir::Cache="$PWD/$out/apt" -o Dir::Cache::archives="$PWD/$out/apt/archives")
"${apt[@]}" update
# shellcheck disable=SC2086  # one argument for each package
(cd "$out/debs" && "${apt[@]}" download $wanted)
for deb in "$out"/debs/*.deb; do
  dpkg-deb -x "$deb" "$out"
done
rm -rf "$out/apt" "$out/debs"
echo "$wanted" >"$out/complete"
