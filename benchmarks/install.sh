#!/usr/bin/env bash
# The Debian packages that the benchmark compares with and measures by; does nothing when they are there.
set -euo pipefail

missing=()
for pair in nginx:nginx-light haproxy:haproxy wrk:wrk taskset:util-linux strace:strace; do
  PATH="$PATH:/usr/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "benchmarks: missing ${missing[*]}; install them (Debian: apt-get install ${missing[*]}) and run again" >&2
  exit 1
fi
apt-get update -qq
# Without their services: the benchmark starts them by itself, from its own configurations, on free ports.
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
