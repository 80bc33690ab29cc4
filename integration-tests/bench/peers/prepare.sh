#!/usr/bin/env bash
# Brings the programs that others would load with, from PyPI, once: prints their folder.
set -euo pipefail

dlt=1.31.0
pyarrow=26.0.1
duckdb=2.0.1
pipelinewise=2.1.2

cache="$HOME/.cache/millrace/peers"

# bring NAME PACKAGE…: a Python environment of its own, unless it is there.
bring() {
    local name=$1
    shift
    [ -e "$cache/$name/.complete" ] && return 0
    rm -rf "${cache:?}/$name"
    mkdir -p "$cache"
    python3 -m venv "$cache/$name"
    "$cache/$name/bin/pip" install --quiet --disable-pip-version-check "$@" >&2
    touch "$cache/$name/.complete"
}

bring dlt "dlt[postgres]==$dlt" "pyarrow==$pyarrow" "duckdb==$duckdb"
bring pipelinewise "pipelinewise-target-postgres==$pipelinewise"
echo "$cache"
