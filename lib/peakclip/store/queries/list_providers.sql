select provider_id, name, latitude, longitude, radius_m, email, webhook_url, active,
       rating_sum::double precision / nullif(rating_count, 0) as rating_average, rating_count, completed_orders, created_at
from providers
where tenant = $1 and deleted_at is null and (created_at, provider_id) < ($2, $3)
order by created_at desc, provider_id desc
limit $4
