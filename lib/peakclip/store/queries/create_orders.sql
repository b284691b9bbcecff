select order_id::text, outcome, reason from create_orders($1::jsonb, $2, $3)
