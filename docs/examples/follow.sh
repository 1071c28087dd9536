#!/bin/sh
# follow.sh CHANNEL[,CHANNEL] [FILE]: each publication as a line, for ever. FILE keeps the place, over restarts too.
set -u
place=${2:-$(mktemp)}
touch "$place"

listen() {
    # A live stream says something every 15 s (clients.sse_heartbeat); one that says nothing for 60 s is given up.
    curl --silent --show-error --fail --no-buffer --connect-timeout 10 --speed-limit 1 --speed-time 60 \
        -H "Authorization: Bearer $NOTIFIER_TOKEN" -H "Last-Event-ID: $(cat "$place")" \
        "${NOTIFIER_URL:-http://127.0.0.1:8000}/sse?channels=$1"
    echo "curl: $?"
}

while :; do
    listen "$1" | {
        id='' event='' data='' code=0
        while IFS= read -r line; do
            case $line in
            "id: "*) id=${line#id: } ;;
            "event: "*) event=${line#event: } ;;
            "data: "*) data=${line#data: } ;;
            "curl: "*) code=${line#curl: } ;;
            "") # the end of an event
                case $event in
                notifier.*) echo "$event $data" >&2 ;; # notifier.subscribed says whether something is missing
                *) [ -z "$data" ] || printf '%s\n' "$data" ;;
                esac
                [ -z "$id" ] || echo "$id" >"$place"
                id='' event='' data=''
                ;;
            esac
        done
        [ "$code" != 22 ] # refused: no use in trying again
    } || exit 1
    sleep 1
done
