select tenant, subject, role from api_keys where key_hash = $1 and revoked_at is null
