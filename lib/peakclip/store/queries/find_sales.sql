select sale_id, tenant, product, price_cents, initial, available, opens_at, closes_at, per_customer_limit,
       pay_within_seconds, fingerprint
from sales where sale_id = any($1::text[]) and deleted_at is null
