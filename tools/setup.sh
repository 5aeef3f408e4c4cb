#!/usr/bin/env bash
# Makes .venv and installs Eidos and all it needs, system packages included when it may.
# Safe to run again: it does nothing while neither pyproject.toml nor constraints.txt has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "setup: $*" >&2; }
die() { say "$*"; exit 1; }

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed. Install it, or name it: make setup PYTHON=/path/to/python3.11"
}

# Installs Debian packages when root on a Debian; otherwise says what to install and goes on or gives up.
need_packages() { # need_packages WHY PACKAGE...
    local why=$1
    shift
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $* ($why)"
        apt-get update -qq >/dev/null 2>&1 || say "apt-get update failed; trying with the lists at hand"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null && return 0
        say "apt-get could not install $*"
        return 1
    fi
    say "$why: not installed. On Debian or Ubuntu: sudo apt-get install $*"
    say "  (Fedora, RHEL: sudo dnf install systemd-devel gcc python3-devel; then run make setup again)"
    return 1
}

has_systemd_headers() {
    command -v pkg-config >/dev/null && pkg-config --exists libsystemd || [ -e /usr/include/systemd/sd-bus.h ]
}

# editable_mode=compat: a plain path instead of an import hook, which would cost every start 20 ms.
# pip and the builds it starts are talkative; their words matter only when they fail.
install() {
    local log
    log=$(mktemp)
    if .venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 8 --timeout 60 -c constraints.txt \
        --config-settings editable_mode=compat "$@" >"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    cat "$log" >&2
    rm -f "$log"
    return 1
}

python=$(find_python)
# Headers that appear later must lead to a new set-up, so they are part of the stamp.
has_systemd_headers && systemd=yes || systemd=no
stamp="$(cat pyproject.toml constraints.txt tools/setup.sh | cksum) $systemd $("$python" --version)"
if [ -e .venv/.ready ] && [ "$(cat .venv/.ready)" = "$stamp" ]; then
    exit 0
fi

"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    need_packages "Python's venv module" python3-venv || die "Python's venv module is needed."
# Anew where making it was cut short before pip was in it.
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv

say "installing Python packages into .venv (a minute or so)"
install -e '.[node,kubernetes,aggregator,dev]' || die "pip could not install what pyproject.toml names; see above."

# pystemd is compiled here; everything else works without it.
if ! .venv/bin/python -c 'import pystemd' 2>/dev/null; then
    wanted=()
    has_systemd_headers || wanted+=(libsystemd-dev pkg-config)
    command -v cc >/dev/null || wanted+=(gcc libc6-dev)
    if [ ${#wanted[@]} = 0 ] || need_packages "libsystemd headers and a C compiler for the systemd collector" "${wanted[@]}"; then
        install -e '.[systemd]' ||
            say "pystemd did not build; the systemd collector will say it is absent"
    fi
fi
has_systemd_headers && systemd=yes || systemd=no
stamp="$(cat pyproject.toml constraints.txt tools/setup.sh | cksum) $systemd $("$python" --version)"
printf '%s' "$stamp" >.venv/.ready
say "ready: .venv/bin/eidos"
