update service_packages set deleted_at = now() where service_package_id = $1 and tenant = $2 and deleted_at is null
