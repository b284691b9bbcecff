select order_id::text as order_id, tenant, customer_id, sale_id, quantity, status,
       extract(epoch from accepted_at)::float8 as accepted_at,
       extract(epoch from started_at)::float8 as started_at
from orders
