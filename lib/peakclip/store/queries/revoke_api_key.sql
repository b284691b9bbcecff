-- A key that was revoked before keeps its time, which is then not this transaction's.
update api_keys set revoked_at = coalesce(revoked_at, now())
where key_id = $1
returning key_id, role, subject, tenant, created_at, revoked_at, revoked_at = now() as just_now
