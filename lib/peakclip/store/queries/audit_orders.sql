select order_id::text as order_id, tenant, customer_id, sale_id, quantity, status,
       extract(epoch from accepted_at)::float8 as accepted_at,
       extract(epoch from started_at)::float8 as started_at,
       frame_id is not null as in_line, version, reason, amount_cents,
       extract(epoch from expires_at)::float8 as expires_at,
       extract(epoch from paid_at)::float8 as paid_at,
       extract(epoch from cancelled_at)::float8 as cancelled_at,
       payment_id::text as payment_id
from orders
