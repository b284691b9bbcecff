# What the curl examples share: the credentials of a running `peakclip up --data DATA`, and three functions.
# Sourced with the folder as $1.

field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
new_key() { cat /proc/sys/kernel/random/uuid; }

URL=$(field url <"$1/credentials.json")
ADMIN=$(field admin <"$1/credentials.json")
SERVICE=$(field service <"$1/credentials.json")
CUSTOMER="curl-$(new_key)"

# A storefront's key acts for the customer that it names. --fail-with-body: exit on a problem, but show it.
shop() { curl --silent --show-error --fail-with-body -H "Authorization: Bearer $SERVICE" -H "Peakclip-Customer: $CUSTOMER" \
    -H "Content-Type: application/json" "$@"; }
admin() { curl --silent --show-error --fail-with-body -H "Authorization: Bearer $ADMIN" -H "Content-Type: application/json" "$@"; }
rfc3339() { date --utc --date "$1" +%Y-%m-%dT%H:%M:%SZ; }

# Looks at an order until it has a status: wait_for ORDER STATUS
wait_for() {
    for _ in $(seq 300); do
        status=$(shop "$URL/v1/orders/$1" | field status)
        if [ "$status" = "$2" ]; then return; fi
        sleep 0.2
    done
    echo "The order is $status, not $2." >&2
    return 1
}
