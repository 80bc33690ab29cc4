#!/usr/bin/env bash
# Programs of others that read what the lake wrote: DuckDB, pyarrow and deltalake, from PyPI.
#
#   readers.sh prepare   prints `export MILLRACE_TEST_READERS=<a Python that has them>`
#
# They land in $HOME/.cache/millrace/readers and are used again. Where MILLRACE_TEST_READERS is set, it prints
# that one; where they cannot be had, the last line is `SKIPPED: <why>`, exit 0.
set -euo pipefail

# Pinned: a test that fails should mean that we changed, not they.
readers="duckdb==2.0.1 pyarrow==26.0.1 deltalake==1.6.6"
cache="$HOME/.cache/millrace/readers"

skip() {
    echo "SKIPPED: $*"
    exit 0
}

prepare() {
    if [ -n "${MILLRACE_TEST_READERS:-}" ]; then
        echo "export MILLRACE_TEST_READERS=$MILLRACE_TEST_READERS"
        return
    fi
    if [ "$(cat "$cache/.made-for" 2>/dev/null)" != "$readers" ]; then
        command -v python3 >/dev/null || skip "python3 is not installed"
        rm -rf "$cache"
        mkdir -p "$cache"
        python3 -m venv "$cache" >&2 || skip "python3 has no module venv"
        # Not quoted: these are several packages.
        # shellcheck disable=SC2086
        "$cache/bin/pip" install --quiet --disable-pip-version-check $readers >&2 \
            || skip "$readers cannot be installed"
        echo "$readers" >"$cache/.made-for"
    fi
    echo "export MILLRACE_TEST_READERS=$cache/bin/python"
}

case "${1:-}" in
prepare) prepare ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
