select sale_id, tenant, product, price_cents, initial, available, opens_at, closes_at, per_customer_limit,
       pay_within_seconds, fingerprint, created_at
from sales
where tenant = $1 and deleted_at is null and (created_at, sale_id) < ($2, $3)
order by created_at desc, sale_id desc
limit $4
