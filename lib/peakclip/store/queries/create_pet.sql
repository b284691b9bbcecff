insert into pets (pet_id, tenant, customer_id, name, species, breed, born_on, weight_grams, notes, fingerprint)
select n.pet_id, n.tenant, n.customer_id, n.name, n.species, n.breed, n.born_on, n.weight_grams, n.notes, n.fingerprint
from jsonb_populate_record(null::pets, $1::jsonb) n
on conflict (pet_id) do nothing
