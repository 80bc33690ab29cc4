#!/usr/bin/env bash
# Brings the real clients that the journeys drive: SDKs from PyPI, npm, crates.io and Maven Central, a
# browser, and an Airbyte source.
#
#   clients.sh prepare    prints `export NAME=value` for each that is there, and SKIPPED with a reason for the rest
#
# Everything lands in $HOME/.cache/millrace/clients and is used again. One thing is changed outside: as root
# on Debian, a missing Chromium is installed.
set -euo pipefail

cache="$HOME/.cache/millrace/clients"
# The SDKs' programs: what they call.
programs=$(cd "$(dirname "$0")/../tests/it/clients" && pwd)
# Pinned: a journey that fails should mean that we changed, not they.
rudder_python="rudder-sdk-python==2.1.9"
segment_python="segment-analytics-python==2.4.0"
airbyte_source="airbyte-source-faker==7.2.1"
rudder_node="@rudderstack/rudder-sdk-node@3.0.13"
segment_node="@segment/analytics-node@3.1.0"
browser="@rudderstack/analytics-js@3.34.1 rudder-sdk-js@2.52.21 @segment/analytics-next@1.84.3 playwright-core@1.65.1"
rudder_rust="2.0.1"
rudder_java="3.1.2"

skip() { echo "SKIPPED $1: $2"; }

has() { command -v "$1" >/dev/null; }

# once FOLDER STAMP COMMAND…: runs the command in a new folder, unless it was made for the same stamp before.
once() {
    local folder="$cache/$1" stamp=$2
    shift 2
    if [ "$(cat "$folder/.made-for" 2>/dev/null)" = "$stamp" ]; then return 0; fi
    rm -rf "$folder"
    mkdir -p "$folder"
    (cd "$folder" && "$@") >&2 || return 1
    echo "$stamp" > "$folder/.made-for"
}

venv() {
    python3 -m venv . && bin/pip install --quiet --disable-pip-version-check "$1"
}

packages() {
    echo '{"private":true}' > package.json && npm install --silent --no-audit --no-fund "$@"
}

# A program of its own in a target folder of its own: the SDK's dependencies are none of ours.
crate() {
    # The caller's are for our own crates.
    unset CARGO_TARGET_DIR RUSTFLAGS
    mkdir src && cp "$programs/rudder_rust.rs" src/main.rs && cat > Cargo.toml <<TOML && cargo build --quiet
[workspace]
[package]
name = "rudder-rust"
version = "0.0.0"
edition = "2021"
[dependencies]
rudderanalytics = { version = "=$rudder_rust", default-features = false, features = ["rustls-tls"] }
serde_json = "1"
TOML
}

jars() {
    cat > pom.xml <<POM || return 1
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>millrace</groupId>
  <artifactId>rudder-java-for-tests</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>com.rudderstack.sdk.java.analytics</groupId><artifactId>analytics</artifactId><version>$rudder_java</version></dependency>
  </dependencies>
</project>
POM
    mvn --batch-mode --quiet dependency:copy-dependencies -DoutputDirectory=jars \
        && javac -cp 'jars/*' -d classes "$programs/RudderJava.java"
}

bring_python() {
    if ! has python3; then skip "$1" "python3 is not installed"; return; fi
    if ! once "$1" "$2" venv "$2"; then skip "$1" "$2 could not be installed"; return; fi
    echo "export $3=$cache/$1/bin/$4"
}

bring_node() {
    if ! has npm; then skip "$1" "npm is not installed"; return; fi
    # Several packages are several words.
    # shellcheck disable=SC2086
    if ! once "$1" "$2" packages $2; then skip "$1" "$2 could not be installed"; return; fi
    echo "export $3=$cache/$1"
}

bring_rust() {
    if ! has cargo; then skip rudder-rust "cargo is not installed"; return; fi
    local stamp
    stamp="$rudder_rust $(cksum < "$programs/rudder_rust.rs")"
    if ! once rudder-rust "$stamp" crate; then
        skip rudder-rust "rudderanalytics $rudder_rust could not be built"
        return
    fi
    echo "export MILLRACE_TEST_RUDDER_RUST=$cache/rudder-rust/target/debug/rudder-rust"
}

bring_java() {
    if ! has javac || ! has mvn; then skip rudder-java "javac or mvn is not installed"; return; fi
    local stamp
    stamp="$rudder_java $(cksum < "$programs/RudderJava.java")"
    if ! once rudder-java "$stamp" jars; then
        skip rudder-java "version $rudder_java could not be fetched or the program not compiled"
        return
    fi
    echo "export MILLRACE_TEST_RUDDER_JAVA=$cache/rudder-java"
}

bring_chromium() {
    if ! has chromium && [ "$(id -u)" = 0 ] && has apt-get; then
        echo "clients.sh: installing Debian's chromium" >&2
        export DEBIAN_FRONTEND=noninteractive
        apt-get -o DPkg::Lock::Timeout=300 -qq update >&2 || true
        apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends chromium >&2 || true
    fi
    if ! has chromium; then
        skip "the browser SDKs" "chromium is not installed, and installing it needs root and apt-get"
        return
    fi
    bring_node browser "$browser" MILLRACE_TEST_BROWSER
}

prepare() {
    mkdir -p "$cache"
    bring_python rudder-python "$rudder_python" MILLRACE_TEST_RUDDER_PYTHON python
    bring_python segment-python "$segment_python" MILLRACE_TEST_SEGMENT_PYTHON python
    bring_python airbyte-faker "$airbyte_source" MILLRACE_TEST_AIRBYTE_FAKER source-faker
    bring_node rudder-node "$rudder_node" MILLRACE_TEST_RUDDER_NODE
    bring_node segment-node "$segment_node" MILLRACE_TEST_SEGMENT_NODE
    bring_rust
    bring_java
    bring_chromium
}

case "${1:-}" in
    prepare) prepare ;;
    *) echo "usage: clients.sh prepare" >&2; exit 2 ;;
esac
