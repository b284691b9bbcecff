select pet_id, customer_id, name, species, breed, born_on, weight_grams, notes, created_at
from pets
where tenant = $1 and deleted_at is null and (created_at, pet_id) < ($2, $3)
order by created_at desc, pet_id desc
limit $4
