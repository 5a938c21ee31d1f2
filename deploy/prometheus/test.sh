#!/usr/bin/env bash
# Runs the cases of the alert rules. PROMTOOL names promtool; otherwise it is taken from PATH, or, as root on
# Debian or Ubuntu, from the package prometheus, which is unpacked into the cache and not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

promtool=${PROMTOOL:-$(command -v promtool || true)}
if [ -z "$promtool" ]; then
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/outbox-relay/prometheus
  promtool=$cache/usr/bin/promtool
  if [ ! -x "$promtool" ]; then
    command -v apt-get >/dev/null || { echo "promtool is not there: install Prometheus, or name it in PROMTOOL" >&2; exit 1; }
    fetched=$(mktemp -d)
    chmod 755 "$fetched" # apt-get downloads as another user
    trap 'rm -rf "$fetched"' EXIT
    (cd "$fetched" && apt-get download -qq prometheus && dpkg -x prometheus_*.deb unpacked)
    mkdir -p "$(dirname "$cache")"
    mv "$fetched/unpacked" "$cache"
  fi
fi
for rules in *.rules.yml; do
  "$promtool" check rules "$rules"
  "$promtool" test rules "${rules%.yml}.test.yml"
done
