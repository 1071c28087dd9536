#!/bin/sh
# publish.sh CHANNEL JSON [ID]: publish through the HTTP API. The same ID again is not delivered twice.
set -eu

id=${3:-$(cat /proc/sys/kernel/random/uuid)}
curl --silent --show-error --fail-with-body --max-time 10 --retry 5 --retry-connrefused \
    -H "X-API-Key: $NOTIFIER_API_KEY" \
    -H "X-Centrifugo-Error-Mode: transport" \
    --data "{\"channel\": \"$1\", \"data\": $2, \"idempotency_key\": \"$id\"}" \
    "${NOTIFIER_URL:-http://127.0.0.1:8000}/api/publish"
