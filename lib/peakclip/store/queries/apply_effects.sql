select apply_effects($1::jsonb)
