-- In the order of the index, of which nothing is read that is not due: a clock that may go on while it reads would be a
-- filter, and a bare `expires_at` in the order is the column of the answer, for which all would be sorted.
select o.order_id::text, extract(epoch from o.expires_at)::double precision as expires_at
from orders o
where o.status = 'pending_payment' and o.expires_at <= statement_timestamp()
  and (o.expires_at, o.order_id) > (to_timestamp($1::double precision), $2::uuid)
order by o.expires_at, o.order_id
limit $3
