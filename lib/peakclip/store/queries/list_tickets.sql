select ticket_id, status, order_id, review_id, customer_id, provider_id, rating, created_at, closed_at
from tickets
where tenant = $1 and (created_at, ticket_id) < ($2, $3) and ($5::text is null or status = $5)
order by created_at desc, ticket_id desc
limit $4
