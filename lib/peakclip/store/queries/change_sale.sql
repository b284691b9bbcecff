with changed as (
  update sales s
  set (product, opens_at, closes_at, per_customer_limit, pay_within_seconds, initial, available) = (
    select n.product, n.opens_at, n.closes_at, n.per_customer_limit, n.pay_within_seconds, s.initial + $5,
           s.available + $5
    from jsonb_populate_record(s, $3::jsonb) n)
  -- Nobody else has changed the stock since it was looked at.
  where sale_id = $1 and tenant = $2 and deleted_at is null and initial = $4 and available + $5 >= 0
  returning s.sale_id
), on_offer as (
  insert into outbox (message_id, subject, increment)
  select $6, 'stock.' || c.sale_id, $5 from changed c where $5 <> 0
)
select sale_id from changed
