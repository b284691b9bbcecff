select service_package_id, name, description, price_cents, duration_minutes, active, created_at, fingerprint
from service_packages where service_package_id = $1 and tenant = $2 and deleted_at is null
