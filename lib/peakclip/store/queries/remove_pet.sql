update pets set deleted_at = now() where pet_id = $1 and tenant = $2 and deleted_at is null
