#!/usr/bin/env bash
# A flash sale: buy, wait in line, pay:  examples/seckill.sh DATA
set -euo pipefail
. "$(dirname "$0")/common.sh"

sale=$(admin -X POST "$URL/v1/sales" -H "Idempotency-Key: $(new_key)" -d "{
    \"product\": \"Night-time grooming\", \"stock\": 1, \"price_cents\": 4900, \"per_customer_limit\": 1,
    \"opens_at\": \"$(rfc3339 '1 minute ago')\", \"closes_at\": \"$(rfc3339 '1 hour')\", \"pay_within_seconds\": 600}" | field sale_id)

accepted=$(shop -X POST "$URL/v1/sales/$sale/orders" -H "Idempotency-Key: $(new_key)" -d '{"quantity": 1}')
echo "accepted: $accepted"
order=$(field order_id <<<"$accepted")
wait_for "$order" pending_payment
echo "paid:     $(shop -X POST "$URL/v1/orders/$order/pay")"

# Everybody else is told that there is nothing left.
CUSTOMER="curl-$(new_key)"
shop -X POST "$URL/v1/sales/$sale/orders" -H "Idempotency-Key: $(new_key)" -d '{"quantity": 1}' && exit 1
echo
