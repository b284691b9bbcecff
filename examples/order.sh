#!/usr/bin/env bash
# An ordinary order, from the pet to the completed service:  examples/order.sh DATA
set -euo pipefail
. "$(dirname "$0")/common.sh"

provider=$(admin -X POST "$URL/v1/providers" -H "Idempotency-Key: $(new_key)" \
    -d '{"name": "Grace", "latitude": 52.5163, "longitude": 13.3777, "radius_m": 5000}' | field provider_id)
package=$(admin -X POST "$URL/v1/service-packages" -H "Idempotency-Key: $(new_key)" \
    -d '{"name": "A walk in the park", "price_cents": 2500, "duration_minutes": 45}' | field service_package_id)
pet=$(shop -X POST "$URL/v1/pets" -H "Idempotency-Key: $(new_key)" -d '{"name": "Lovelace", "species": "dog"}' | field pet_id)

# The same key again is the same order: safe to repeat when an answer is lost.
key=$(new_key)
body="{\"pet_id\": \"$pet\", \"service_package_id\": \"$package\", \"service_date\": \"$(rfc3339 tomorrow)\"}"
order=$(shop -X POST "$URL/v1/orders" -H "Idempotency-Key: $key" -d "$body" | field order_id)
again=$(shop -X POST "$URL/v1/orders" -H "Idempotency-Key: $key" -d "$body" | field order_id)
[ "$order" = "$again" ]
echo "ordered:   $(shop "$URL/v1/orders/$order")"

admin -X POST "$URL/v1/orders/$order/accept" -d "{\"provider_id\": \"$provider\"}" >/dev/null
admin -X POST "$URL/v1/orders/$order/start" >/dev/null
admin -X POST "$URL/v1/orders/$order/complete" >/dev/null
echo "completed: $(shop -X POST "$URL/v1/orders/$order/pay")"
