select customer_id, name, email, webhook_url, latitude, longitude, created_at
from customers
where tenant = $1 and deleted_at is null and (created_at, customer_id) < ($2, $3)
order by created_at desc, customer_id desc
limit $4
