with given_up as (
  select * from jsonb_to_recordset($1::jsonb) as g (message_id text, at timestamptz, order_ids jsonb, units jsonb)
), gone as (
  delete from dead_letters d using given_up g where d.message_id = g.message_id and d.at = g.at
  returning d.*, g.order_ids, g.units
), returned as (
  -- Units that were admitted for an order and will never be taken by its row go back on offer.
  insert into outbox (message_id, subject, increment)
  select 'd-' || gone.message_id || '-' || u.order_id, 'stock.' || u.sale_id, u.quantity
  from gone cross join lateral jsonb_to_recordset(gone.units) as u (order_id uuid, sale_id text, quantity bigint)
  where exists (select from sales s where s.sale_id = u.sale_id)
    and not exists (select from orders o where o.order_id = u.order_id)
)
insert into dropped_dead_letters (message_id, pool, subject, cause, attempts, died_at, order_ids)
select message_id, pool, subject, cause, attempts, at, order_ids from gone
returning message_id
