update tickets set status = 'closed', closed_at = coalesce(closed_at, clock_timestamp())
where ticket_id = $1 and tenant = $2
returning ticket_id, status, order_id, review_id, customer_id, provider_id, rating, created_at, closed_at
