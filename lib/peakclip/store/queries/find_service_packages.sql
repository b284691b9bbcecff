select service_package_id, tenant from service_packages
where service_package_id = any($1::text[]) and active and deleted_at is null
