#!/usr/bin/env bash
# A PostgreSQL server of one's own for tests: in a folder that is thrown away, on a free port of loopback.
#
#   postgres.sh start DIR   starts it in DIR, prints `export MILLRACE_TEST_POSTGRES=postgres://...`
#   postgres.sh stop DIR    stops it; DIR stays, so that `start DIR` finds the same databases again
#   postgres.sh serve       starts one and stops and removes it when its standard input ends: a test that
#                           holds the other end of the pipe cannot leave a server behind, however it dies
#
# Where MILLRACE_TEST_POSTGRES is set, start and serve print that one and start nothing.
# Without PostgreSQL: as root on Debian it is installed; elsewhere the last line is `SKIPPED: <why>`, exit 0.
set -euo pipefail

say() { echo "postgres.sh: $*" >&2; }

skip() {
    echo "SKIPPED: $*"
    exit 0
}

# The newest server of the system's packages; client-only installations have no initdb.
find_bin() {
    local candidate
    candidate=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -1)
    if [ ! -x "$candidate" ]; then
        candidate=$(command -v initdb || true)
    fi
    [ -n "$candidate" ] && dirname "$candidate"
}

ensure_bin() {
    BIN=$(find_bin || true)
    if [ -z "$BIN" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing Debian's postgresql"
        # Two test binaries may want it at once: apt waits for the other's lock.
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq update >&2 || true
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends \
            postgresql >&2 || true
        BIN=$(find_bin || true)
    fi
    [ -n "$BIN" ] || skip "PostgreSQL is not installed, and installing it needs root and apt-get"
}

# PostgreSQL refuses to run as root.
as_server() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/tmp PATH="$PATH" LC_ALL=C.UTF-8 "$@"
    else
        env LC_ALL=C.UTF-8 "$@"
    fi
}

# The kernel names a free port; another process may take it before we do, so start() tries again.
free_port() {
    local port
    while :; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

start() {
    local dir=$1 port attempt
    ensure_bin
    mkdir -p "$dir"
    [ "$(id -u)" != 0 ] || chown postgres "$dir"
    if [ ! -f "$dir/db/PG_VERSION" ]; then
        as_server "$BIN/initdb" --pgdata="$dir/db" --username=postgres --auth=trust --encoding=UTF8 \
            --locale=C.UTF-8 --no-sync >"$dir.initdb.log" 2>&1 || { cat "$dir.initdb.log" >&2; exit 1; }
        rm -f "$dir.initdb.log"
    fi
    for attempt in 1 2 3 4 5; do
        # The port of the last start, so that clients find a restarted server again.
        port=$(cat "$dir/port" 2>/dev/null || free_port)
        # Not fsync=off: some tests kill the server, and then the promise is tested too.
        if as_server "$BIN/pg_ctl" --pgdata="$dir/db" --log="$dir/server.log" --wait --timeout=60 --silent \
            --options="-p $port -h 127.0.0.1 -c unix_socket_directories= -c max_connections=200 -c shared_buffers=64MB" \
            start >&2; then
            as_server sh -c "echo $port >'$dir/port'"
            echo "export MILLRACE_TEST_POSTGRES=postgres://postgres@127.0.0.1:$port/postgres"
            return
        fi
        say "attempt $attempt on port $port failed"
        rm -f "$dir/port"
    done
    tail -20 "$dir/server.log" >&2
    exit 1
}

stop() {
    local dir=$1
    BIN=$(find_bin || true)
    [ -n "$BIN" ] && [ -f "$dir/db/postmaster.pid" ] || return 0
    as_server "$BIN/pg_ctl" --pgdata="$dir/db" --mode=immediate --wait --silent stop >&2
}

serve() {
    # Not local: the trap runs when this function is gone.
    SERVED=$(mktemp -d "${TMPDIR:-/tmp}/millrace-postgres.XXXXXX")
    # The server's user must reach a folder below it.
    chmod 755 "$SERVED"
    trap 'stop "$SERVED/server"; rm -rf "$SERVED"' EXIT
    trap 'exit 0' INT TERM HUP
    start "$SERVED/server"
    cat >/dev/null
}

case "${1:-} ${2:-}" in
"start "?* | "serve ")
    if [ -n "${MILLRACE_TEST_POSTGRES:-}" ]; then
        echo "export MILLRACE_TEST_POSTGRES=$MILLRACE_TEST_POSTGRES"
        [ "$1" = start ] || cat >/dev/null
        exit 0
    fi
    ;;&
"start "?*) start "$2" ;;
"stop "?*) stop "$2" ;;
"serve ") serve ;;
*)
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
