select payment_id::text as payment_id, kind, order_id::text as order_id, amount_cents from payments
