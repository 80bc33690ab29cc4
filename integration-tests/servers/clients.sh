#!/usr/bin/env bash
# Brings the real clients that the journeys drive: SDKs from PyPI and npm, and an Airbyte source.
#
#   clients.sh prepare    prints `export NAME=value` for each that is there, and SKIPPED with a reason for the rest
#
# Everything lands in $HOME/.cache/millrace/clients and is used again; nothing outside is changed.
set -euo pipefail

cache="$HOME/.cache/millrace/clients"
# Pinned: a journey that fails should mean that we changed, not they.
python_sdk="rudder-sdk-python==2.1.9"
node_sdk="@rudderstack/rudder-sdk-node@3.0.13"
airbyte_source="airbyte-source-faker==7.2.1"

# venv NAME REQUIREMENT: a Python environment with one package, made once.
venv() {
    local folder="$cache/$1" requirement=$2
    if [ "$(cat "$folder/.made-for" 2>/dev/null)" = "$requirement" ]; then return 0; fi
    rm -rf "$folder"
    python3 -m venv "$folder" >&2 || return 1
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$requirement" >&2 || return 1
    echo "$requirement" > "$folder/.made-for"
}

prepare() {
    mkdir -p "$cache"
    if ! command -v python3 >/dev/null; then
        echo "SKIPPED the Python SDK and the Airbyte source: python3 is not installed"
    else
        if venv rudder-python "$python_sdk"; then
            echo "export MILLRACE_TEST_PYTHON_SDK=$cache/rudder-python/bin/python"
        else
            echo "SKIPPED the Python SDK: $python_sdk could not be installed"
        fi
        if venv airbyte-faker "$airbyte_source"; then
            echo "export MILLRACE_TEST_AIRBYTE_FAKER=$cache/airbyte-faker/bin/source-faker"
        else
            echo "SKIPPED the Airbyte source: $airbyte_source could not be installed"
        fi
    fi
    if ! command -v npm >/dev/null; then
        echo "SKIPPED the Node SDK: npm is not installed"
        return 0
    fi
    local folder="$cache/rudder-node"
    if [ "$(cat "$folder/.made-for" 2>/dev/null)" != "$node_sdk" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        echo '{"private":true}' > "$folder/package.json"
        if ! (cd "$folder" && npm install --silent --no-audit --no-fund "$node_sdk") >&2; then
            echo "SKIPPED the Node SDK: $node_sdk could not be installed"
            return 0
        fi
        echo "$node_sdk" > "$folder/.made-for"
    fi
    echo "export MILLRACE_TEST_NODE_SDK=$folder"
}

case "${1:-}" in
    prepare) prepare ;;
    *) echo "usage: clients.sh prepare" >&2; exit 2 ;;
esac
