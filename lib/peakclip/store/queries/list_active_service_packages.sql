select service_package_id, name, description, price_cents, duration_minutes, active, created_at
from service_packages
where tenant = $1 and deleted_at is null and (created_at, service_package_id) < ($2, $3) and active
order by created_at desc, service_package_id desc
limit $4
