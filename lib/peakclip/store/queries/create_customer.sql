insert into customers (customer_id, tenant, name, email, webhook_url, latitude, longitude, fingerprint)
select n.customer_id, n.tenant, n.name, n.email, n.webhook_url, n.latitude, n.longitude, n.fingerprint
from jsonb_populate_record(null::customers, $1::jsonb) n
-- Who was removed may come back, with a new key: a repeat of an old request does not bring anybody back.
on conflict (tenant, customer_id) do update
set (name, email, webhook_url, latitude, longitude, fingerprint, created_at, deleted_at) =
    (excluded.name, excluded.email, excluded.webhook_url, excluded.latitude, excluded.longitude, excluded.fingerprint,
     now(), null)
where customers.deleted_at is not null and left(customers.fingerprint, 16) <> left(excluded.fingerprint, 16)
