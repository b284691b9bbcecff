insert into providers (provider_id, tenant, name, latitude, longitude, radius_m, email, webhook_url, active, fingerprint)
select n.provider_id, n.tenant, n.name, n.latitude, n.longitude, n.radius_m, n.email, n.webhook_url, n.active, n.fingerprint
from jsonb_populate_record(null::providers, $1::jsonb) n
on conflict (provider_id) do nothing
