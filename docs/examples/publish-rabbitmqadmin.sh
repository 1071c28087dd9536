#!/bin/sh
# publish-rabbitmqadmin.sh CHANNEL JSON: publish with RabbitMQ's own tool, for trying things out
set -eu

answer=$(rabbitmqadmin ${RABBITMQADMIN_OPTIONS:-} publish exchange=notifications routing_key="$1" payload="$2" \
    properties="{\"message_id\": \"$(cat /proc/sys/kernel/random/uuid)\", \"delivery_mode\": 2}")
echo "$answer"
[ "$answer" = "Message published" ] # and not "Message published but NOT routed"
