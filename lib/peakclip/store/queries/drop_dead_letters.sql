with given_up as (
  select * from jsonb_to_recordset($1::jsonb) as g (message_id text, at timestamptz, order_ids jsonb)
), gone as (
  delete from dead_letters d using given_up g where d.message_id = g.message_id and d.at = g.at
  returning d.*, g.order_ids
)
insert into dropped_dead_letters (message_id, pool, subject, cause, attempts, died_at, order_ids)
select message_id, pool, subject, cause, attempts, at, order_ids from gone
returning message_id
