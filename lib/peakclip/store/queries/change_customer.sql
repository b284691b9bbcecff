update customers c
set (name, email, webhook_url, latitude, longitude) = (
  select n.name, n.email, n.webhook_url, n.latitude, n.longitude from jsonb_populate_record(c, $3::jsonb) n)
where customer_id = $1 and tenant = $2 and deleted_at is null
