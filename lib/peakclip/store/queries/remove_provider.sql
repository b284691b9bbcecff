update providers set deleted_at = now(), email = null, webhook_url = null
where provider_id = $1 and tenant = $2 and deleted_at is null
