update pets p
set (name, species, breed, born_on, weight_grams, notes) = (
  select n.name, n.species, n.breed, n.born_on, n.weight_grams, n.notes from jsonb_populate_record(p, $3::jsonb) n)
where pet_id = $1 and tenant = $2 and deleted_at is null
