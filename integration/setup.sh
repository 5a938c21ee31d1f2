#!/usr/bin/env bash
# Makes this machine ready for `make test`: Go, Java 17 or later, Maven, a Postgres and a Kafka. What can be fetched is fetched into
# the user's cache folder. What must be installed is installed with apt-get where we are root and there is one; otherwise
# the script says what is missing and ends with status 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

updated=
apt_install() { # WHAT PACKAGE
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    fail "$1 is missing: install it (on Debian and Ubuntu: sudo apt-get install $2)"
  fi
  say "$1 is missing: installing the package $2"
  export DEBIAN_FRONTEND=noninteractive
  if [ -z "$updated" ]; then
    apt-get update -qq || fail "apt-get update failed: install $2 by hand"
    updated=1
  fi
  apt-get install -y -qq --no-install-recommends "$2" >/dev/null || fail "apt-get install $2 failed: install it by hand"
}

java_major() {
  command -v java >/dev/null || { echo 0; return; }
  local major
  major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  echo "${major:-0}"
}

command -v go >/dev/null || fail "Go is missing: install it from https://go.dev/dl (go.mod says which version)"
# The race detector links C code.
command -v "$(go env CC)" >/dev/null || apt_install "a C compiler, which the race detector needs," build-essential
[ "$(java_major)" -ge 17 ] || apt_install "Java 17 or later" default-jre-headless
[ "$(java_major)" -ge 17 ] || fail "Java $(java_major) is too old: install Java 17 or later"
if ! command -v mvn >/dev/null && [ -z "${RELAY_TEST_MAVEN_REPOSITORY:-}" ]; then
  apt_install "Maven, which fetches Kafka," maven
fi

check=$(mktemp -d)
trap 'rm -rf "$check"' EXIT
go build -o "$check/setup" ./integration/setup
status=0
"$check/setup" || status=$?
if [ "$status" = 3 ]; then # no Postgres: neither installed nor to be fetched
  apt_install "Postgres" postgresql
  status=0
  "$check/setup" || status=$?
fi
[ "$status" = 0 ] || fail "a server that the tests need cannot be had, see above"
