select provider_id, name, latitude, longitude, radius_m, email, webhook_url, active,
       rating_sum::double precision / nullif(rating_count, 0) as rating_average, rating_count, completed_orders,
       created_at, fingerprint
from providers where provider_id = $1 and tenant = $2 and deleted_at is null
