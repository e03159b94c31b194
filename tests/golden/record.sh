#!/usr/bin/env bash
# Records what this release writes: tests/golden/record.sh [VERSION]. Only for a version that
# is not released yet; docs/contributing.md says when.
set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
version=${1:-$(sed -n 's/^project(rukun VERSION \([0-9.]*\).*/\1/p' "$root/CMakeLists.txt")}
build=${RUKUN_BUILD:-$root/build/release}
folder=$root/tests/golden/$version

die() { printf 'record: %s\n' "$*" >&2; exit 1; }

[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "which version? $version is none"
if git -C "$root" rev-parse -q --verify "refs/tags/v$version" >/dev/null; then
    die "$version is released: what it recorded stays"
fi
[[ -d $build ]] || cmake -S "$root" -B "$build" -G Ninja
ninja -C "$build" golden_record golden_test
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"$build/tests/golden/golden_record" "$fresh/files"
mkdir -p "$folder"
cp "$fresh"/files/* "$folder/"
"$build/tests/golden/golden_test"
