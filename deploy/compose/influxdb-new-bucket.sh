#!/bin/sh
# Run by the image once, after it has made the bucket of old: the one of new.
set -eu
influx bucket create --org home --name new --token "$(cat /run/secrets/influxdb-token)"
