update providers p
set (name, latitude, longitude, radius_m, email, webhook_url, active) = (
  select n.name, n.latitude, n.longitude, n.radius_m, n.email, n.webhook_url, n.active
  from jsonb_populate_record(p, $3::jsonb) n)
where provider_id = $1 and tenant = $2 and deleted_at is null
