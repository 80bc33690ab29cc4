#!/usr/bin/env bash
# An S3 of one's own for tests: moto from PyPI, on a free port of loopback, with an empty bucket. It keeps
# everything in memory and honours `If-None-Match: *`, on which the lake's intent log rests.
#
#   s3.sh start DIR   starts it, prints `export MILLRACE_TEST_S3=http://127.0.0.1:PORT/BUCKET`
#   s3.sh stop DIR    stops it
#
# Where MILLRACE_TEST_S3 is set, start prints that one and starts nothing. moto lands in
# $HOME/.cache/millrace/moto; where it cannot be had, the last line is `SKIPPED: <why>`, exit 0.
set -euo pipefail

# Pinned: a test that fails should mean that we changed, not it.
moto="moto[server]==5.2.5"
cache="$HOME/.cache/millrace/moto"
bucket=millrace-tests

skip() {
    echo "SKIPPED: $*"
    exit 0
}

ensure_moto() {
    if [ "$(cat "$cache/.made-for" 2>/dev/null)" = "$moto" ]; then return; fi
    command -v python3 >/dev/null || skip "python3 is not installed"
    rm -rf "$cache"
    mkdir -p "$cache"
    python3 -m venv "$cache" >&2 || skip "python3 has no module venv"
    "$cache/bin/pip" install --quiet --disable-pip-version-check "$moto" >&2 || skip "$moto cannot be installed"
    echo "$moto" >"$cache/.made-for"
}

start() {
    local dir=$1 port
    ensure_moto
    mkdir -p "$dir"
    for _ in 1 2 3 4 5; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue; fi
        "$cache/bin/moto_server" -H 127.0.0.1 -p "$port" >"$dir/moto.log" 2>&1 </dev/null &
        echo $! >"$dir/pid"
        # It is there when it has made the bucket; importing it takes seconds on a busy machine.
        for _ in $(seq 1 240); do
            kill -0 "$(cat "$dir/pid")" 2>/dev/null || break
            if curl -fsS -X PUT "http://127.0.0.1:$port/$bucket" -H "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=test" >/dev/null 2>&1; then
                echo "export MILLRACE_TEST_S3=http://127.0.0.1:$port/$bucket"
                return
            fi
            sleep 0.25
        done
        stop "$dir"
    done
    cat "$dir/moto.log" >&2
    exit 1
}

stop() {
    local dir=$1
    [ -f "$dir/pid" ] || return 0
    kill "$(cat "$dir/pid")" 2>/dev/null || true
    rm -f "$dir/pid"
}

case "${1:-} ${2:-}" in
"start "?*)
    if [ -n "${MILLRACE_TEST_S3:-}" ]; then
        echo "export MILLRACE_TEST_S3=$MILLRACE_TEST_S3"
        exit 0
    fi
    start "$2"
    ;;
"stop "?*) stop "$2" ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
