select pet_id, customer_id, name, species, breed, born_on, weight_grams, notes, created_at, fingerprint
from pets where pet_id = $1 and tenant = $2 and deleted_at is null
