#!/bin/sh
# Makes what compose.yaml takes from ./secrets; keeps what is there. Containers read the files as users of their own, so
# the files are readable and their folder is not.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
for name in salt password influxdb-token; do
  [ -s "secrets/$name" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "secrets/$name"
  chmod 0444 "secrets/$name"
done
echo "secrets/ has salt, password and influxdb-token"
