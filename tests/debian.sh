#!/usr/bin/env bash
# What some tests use of Debian: chromium, which reads reports; an SSH server and client, for a tunnel to the pages of
# `resnetlab serve`; LaTeX with poppler, which set and read what is exported for papers (some 500 MB). Installs what is
# missing where this user may, and says what it did. Without one of them its tests are skipped, and say so.
set -euo pipefail

missing() {
    command -v chromium > /dev/null || echo chromium
    command -v ssh > /dev/null || echo openssh-client
    command -v sshd > /dev/null || [ -x /usr/sbin/sshd ] || echo openssh-server # runs only while a test does, without privileges
    # The first has booktabs and BibTeX comes with it; the second has siunitx; the third turns a PDF into text.
    kpsewhich booktabs.sty > /dev/null 2>&1 || echo texlive-latex-recommended
    kpsewhich siunitx.sty > /dev/null 2>&1 || echo texlive-science
    command -v pdftotext > /dev/null || echo poppler-utils
}

mapfile -t packages < <(missing)
if [ ${#packages[@]} = 0 ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "not here: ${packages[*]}; tests that need them are skipped (on Debian: apt-get install ${packages[*]})"
    exit 0
fi
echo "installing ${packages[*]}, for the tests of reports, pages and what is exported for papers"
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"; } > /dev/null; then
    echo "could not be installed: the tests that need them are skipped"
    exit 0
fi
dpkg-query -W -f='${Package} ${Version}\n' "${packages[@]}"
