select count(*) from orders where status = 'pending_payment' and expires_at <= statement_timestamp()
