#!/usr/bin/env bash
# Runs the cases of the alert rules, and then relays and a consumer under a real Prometheus. PROMTOOL and PROMETHEUS
# name the programs; otherwise they are taken from PATH, or, on Debian or Ubuntu, from the package prometheus, which
# is unpacked into the cache and not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

promtool=${PROMTOOL:-$(command -v promtool || true)}
prometheus=${PROMETHEUS:-$(command -v prometheus || true)}
if [ -z "$promtool" ] || [ -z "$prometheus" ]; then
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/outbox-relay/prometheus
  promtool=$cache/usr/bin/promtool prometheus=$cache/usr/bin/prometheus
  if [ ! -x "$promtool" ]; then
    command -v apt-get >/dev/null || { echo "Prometheus is not there: install it, or name PROMTOOL and PROMETHEUS" >&2; exit 1; }
    fetched=$(mktemp -d)
    trap 'rm -rf "$fetched"' EXIT
    chmod 755 "$fetched" # apt-get downloads as another user
    (cd "$fetched" && apt-get download -qq prometheus && dpkg -x prometheus_*.deb unpacked)
    mkdir -p "$(dirname "$cache")"
    mv "$fetched/unpacked" "$cache"
  fi
fi
for rules in *.rules.yml; do
  "$promtool" check rules "$rules"
  "$promtool" test rules "${rules%.yml}.test.yml"
done
cd ../..
PROMETHEUS=$prometheus go test -count=1 -timeout 10m -tags alerts -v ./integration/metrics
