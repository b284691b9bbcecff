update customers set deleted_at = now(), email = null, webhook_url = null, latitude = null, longitude = null
where customer_id = $1 and tenant = $2 and deleted_at is null
