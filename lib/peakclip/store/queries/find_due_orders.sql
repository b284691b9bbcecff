select order_id::text, extract(epoch from expires_at)::double precision as expires_at
from orders
where status = 'pending_payment' and expires_at <= clock_timestamp()
  and (expires_at, order_id) > (to_timestamp($1::double precision), $2::uuid)
order by expires_at, order_id
limit $3
