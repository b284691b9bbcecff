select customer_id, name, email, webhook_url, latitude, longitude, created_at, fingerprint
from customers where customer_id = $1 and tenant = $2 and deleted_at is null
