insert into service_packages (service_package_id, tenant, name, description, price_cents, duration_minutes, active,
                              fingerprint)
select n.service_package_id, n.tenant, n.name, n.description, n.price_cents, n.duration_minutes, n.active, n.fingerprint
from jsonb_populate_record(null::service_packages, $1::jsonb) n
on conflict (service_package_id) do nothing
