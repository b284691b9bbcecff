select pet_id, tenant, customer_id from pets where pet_id = any($1::text[]) and deleted_at is null
