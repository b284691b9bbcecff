with created as (
  insert into sales (sale_id, tenant, product, price_cents, initial, available, opens_at, closes_at,
                     per_customer_limit, pay_within_seconds, fingerprint)
  values ($1, $2, $3, $4, $5, $5, $6, $7, $8, $9, $10)
  on conflict (sale_id) do nothing
  returning sale_id, initial
)
insert into outbox (message_id, subject, increment)
select 'init-' || sale_id, 'stock.' || sale_id, initial from created where initial > 0
