#!/usr/bin/env bash
# A review of a completed order, and the provider's answer:  examples/review.sh DATA
set -euo pipefail
. "$(dirname "$0")/common.sh"

provider=$(admin -X POST "$URL/v1/providers" -H "Idempotency-Key: $(new_key)" \
    -d '{"name": "Grace", "latitude": 52.5163, "longitude": 13.3777, "radius_m": 5000}' | field provider_id)
package=$(admin -X POST "$URL/v1/service-packages" -H "Idempotency-Key: $(new_key)" \
    -d '{"name": "A walk in the park", "price_cents": 2500, "duration_minutes": 45}' | field service_package_id)
pet=$(shop -X POST "$URL/v1/pets" -H "Idempotency-Key: $(new_key)" -d '{"name": "Lovelace", "species": "dog"}' | field pet_id)
order=$(shop -X POST "$URL/v1/orders" -H "Idempotency-Key: $(new_key)" \
    -d "{\"pet_id\": \"$pet\", \"service_package_id\": \"$package\", \"service_date\": \"$(rfc3339 tomorrow)\"}" | field order_id)
admin -X POST "$URL/v1/orders/$order/accept" -d "{\"provider_id\": \"$provider\"}" >/dev/null
admin -X POST "$URL/v1/orders/$order/start" >/dev/null
admin -X POST "$URL/v1/orders/$order/complete" >/dev/null

review=$(shop -X POST "$URL/v1/reviews" -H "Idempotency-Key: $(new_key)" \
    -d "{\"order_id\": \"$order\", \"rating\": 5, \"comment\": \"Wonderful.\"}" | field review_id)
echo "review:   $(admin -X POST "$URL/v1/reviews/$review/reply" -d '{"text": "Thank you!"}')"
for _ in $(seq 100); do
    found=$(admin "$URL/v1/providers/$provider")
    if [ "$(field rating_count <<<"$found")" = 1 ]; then break; fi
    sleep 0.1
done
echo "provider: $found"
