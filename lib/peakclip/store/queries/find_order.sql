select order_id::text, tenant, customer_id, sale_id, quantity, status, reason, accepted_at, started_at, committed_at,
       expires_at, paid_at, cancelled_at
from orders where order_id = $1
