#!/usr/bin/env bash
# An Azure Blob Storage of one's own for tests: Azurite from npm, on a free port of loopback, with an empty container. It
# keeps everything in memory and honours `If-None-Match: *`, on which the lake's intent log rests.
#
#   azure.sh start DIR   starts it, prints `export MILLRACE_TEST_AZURE=CONTAINER` and
#                        `export AZURITE_BLOB_STORAGE_URL=http://127.0.0.1:PORT`
#   azure.sh stop DIR    stops it
#
# Where MILLRACE_TEST_AZURE is set, start prints that one and starts nothing. Azurite lands in
# $HOME/.cache/millrace/azurite; where it cannot be had, the last line is `SKIPPED: <why>`, exit 0.
set -euo pipefail

# Pinned: a test that fails should mean that we changed, not it.
azurite="azurite@3.35.0"
cache="$HOME/.cache/millrace/azurite"
container=millrace-tests

skip() {
    echo "SKIPPED: $*"
    exit 0
}

ensure_azurite() {
    if [ "$(cat "$cache/.made-for" 2>/dev/null)" = "$azurite" ]; then return; fi
    command -v npm >/dev/null || skip "npm is not installed"
    rm -rf "$cache"
    mkdir -p "$cache"
    npm install --prefix "$cache" --no-audit --no-fund --ignore-scripts --loglevel=error "$azurite" >&2 ||
        skip "$azurite cannot be installed"
    echo "$azurite" >"$cache/.made-for"
}

# make_container PORT: a signed request, by the account and key that Microsoft publishes for the emulator.
make_container() {
    # shellcheck disable=SC2016 # it is JavaScript's
    PORT=$1 CONTAINER=$container node -e '
        const { createHmac } = require("crypto");
        const account = "devstoreaccount1";
        const key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
        const path = `/${account}/${process.env.CONTAINER}`;
        const headers = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-08-06" };
        const signed = ["PUT", ...Array(11).fill(""), `x-ms-date:${headers["x-ms-date"]}`,
            `x-ms-version:${headers["x-ms-version"]}`, `/${account}${path}`, "restype:container"].join("\n");
        const signature = createHmac("sha256", Buffer.from(key, "base64")).update(signed, "utf8").digest("base64");
        headers.Authorization = `SharedKey ${account}:${signature}`;
        fetch(`http://127.0.0.1:${process.env.PORT}${path}?restype=container`, { method: "PUT", headers })
            .then((answer) => process.exit(answer.status === 201 ? 0 : 1), () => process.exit(1));
    '
}

start() {
    local dir=$1 port
    ensure_azurite
    mkdir -p "$dir"
    for _ in 1 2 3 4 5; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue; fi
        # The client speaks a newer version of the protocol than this server knows by name.
        "$cache/node_modules/.bin/azurite-blob" --blobHost 127.0.0.1 --blobPort "$port" --inMemoryPersistence \
            --skipApiVersionCheck --disableTelemetry --silent >"$dir/azurite.log" 2>&1 </dev/null &
        echo $! >"$dir/pid"
        # It is there when it has made the container; starting takes seconds on a busy machine.
        for _ in $(seq 1 120); do
            kill -0 "$(cat "$dir/pid")" 2>/dev/null || break
            if make_container "$port" 2>/dev/null; then
                echo "export MILLRACE_TEST_AZURE=$container"
                echo "export AZURITE_BLOB_STORAGE_URL=http://127.0.0.1:$port"
                return
            fi
            sleep 0.25
        done
        stop "$dir"
    done
    cat "$dir/azurite.log" >&2
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
    if [ -n "${MILLRACE_TEST_AZURE:-}" ]; then
        echo "export MILLRACE_TEST_AZURE=$MILLRACE_TEST_AZURE"
        exit 0
    fi
    start "$2"
    ;;
"stop "?*) stop "$2" ;;
*)
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
