update service_packages p
set (name, description, price_cents, duration_minutes, active) = (
  select n.name, n.description, n.price_cents, n.duration_minutes, n.active from jsonb_populate_record(p, $3::jsonb) n)
where service_package_id = $1 and tenant = $2 and deleted_at is null
