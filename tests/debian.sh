#!/usr/bin/env bash
# The browser that `make test` reads reports with: installs Debian's chromium where it is missing and this user may, and
# says what it did. Without one those tests are skipped, and say so.
set -euo pipefail

if command -v chromium > /dev/null; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "no chromium here: the tests that read reports in a browser are skipped (on Debian: apt-get install chromium)"
    exit 0
fi
echo "installing chromium, for the tests that read reports in a browser"
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } > /dev/null; then
    echo "chromium could not be installed: the tests that read reports in a browser are skipped"
    exit 0
fi
dpkg-query -W -f='${Package} ${Version}\n' chromium
