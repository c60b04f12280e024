#!/bin/bash
# `cmake --install` puts imgconv into PREFIX/bin, and with IMGCONV_QEMU_IMG_LINK a link qemu-img.
#
#   tests/cli/install.sh BUILD_FOLDER
#
# The part of the build folder that installs the program is run with the option off and on, without
# configuring or building anything.
set -euo pipefail
build=$(realpath "${1:?usage: tests/cli/install.sh BUILD_FOLDER}")
source=$(dirname "$(realpath "$0")")/../../cmd
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() { echo "$1" >&2; exit 1; }
install() { cmake "$@" >"$folder/log" 2>&1 || { cat "$folder/log" >&2; return 1; }; }

# The rule of cmd/CMakeLists.txt in a project of its own, around the program that is there already.
mkdir "$folder/project"
sed -n '/^option(IMGCONV_QEMU_IMG_LINK/,$p' "$source/CMakeLists.txt" >"$folder/project/rule.cmake"
cat >"$folder/project/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(link LANGUAGES NONE)
install(PROGRAMS $build/imgconv DESTINATION bin)
include(rule.cmake)
END

for option in OFF ON; do
  cmake -G Ninja -S "$folder/project" -B "$folder/$option" -DIMGCONV_QEMU_IMG_LINK=$option >/dev/null
  install --install "$folder/$option" --prefix "$folder/$option-prefix"
  [ "$("$folder/$option-prefix/bin/imgconv" x 2>&1 | head -1)" = "imgconv: Command not found: x" ] ||
    fail "imgconv is not installed"
done
[ ! -e "$folder/OFF-prefix/bin/qemu-img" ] || fail "a link although it is switched off"
[ "$(readlink "$folder/ON-prefix/bin/qemu-img")" = imgconv ] || fail "the link does not lead to imgconv"
[ "$("$folder/ON-prefix/bin/qemu-img" x 2>&1 | head -1)" = "qemu-img: Command not found: x" ] ||
  fail "the link does not speak as qemu-img"
DESTDIR=$folder/stage install --install "$folder/ON" --prefix /usr
[ "$(readlink "$folder/stage/usr/bin/qemu-img")" = imgconv ] || fail "DESTDIR is not obeyed"
# Again over the link that is there, and not over a program.
install --install "$folder/ON" --prefix "$folder/ON-prefix"
rm "$folder/ON-prefix/bin/qemu-img"
echo genuine >"$folder/ON-prefix/bin/qemu-img"
! install --install "$folder/ON" --prefix "$folder/ON-prefix" 2>/dev/null || fail "a program was replaced"
[ "$(cat "$folder/ON-prefix/bin/qemu-img")" = genuine ] || fail "a program was overwritten"
