select * from orders
where tenant = $1 and (committed_at, order_id) < ($2, $3::uuid) and ($5::text is null or status = $5)
  and customer_id = $6
order by committed_at desc, order_id desc
limit $4
