select key_id, role, subject, tenant, created_at, revoked_at
from api_keys
where $1::text is null or tenant = $1
order by created_at, key_id
