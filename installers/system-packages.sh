#!/bin/sh
# Installs what Debian and Ubuntu lack for the studio: Python's venv module and Qt's libraries.
# Packages named as arguments are installed too. Does nothing where nothing is missing, and on other
# systems.
set -eu

command -v apt-get >/dev/null 2>&1 || exit 0

packages="python3-venv libgl1 libegl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0 \
libxcb-cursor0 libxkbcommon-x11-0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0 fonts-inter $*"

missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok installed" ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

sudo=""
if [ "$(id -u)" != 0 ]; then
    sudo=sudo
    command -v sudo >/dev/null 2>&1 || {
        echo "Please install as root:$missing" >&2
        exit 1
    }
fi
echo "Installing system packages:$missing"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of packages on purpose
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
