-- migrate:up

-- A notification on its way out of the system: one row per notification and channel, until the far side has it.
create table deliveries (
  delivery_id      uuid primary key,                -- the idempotency key for the far side
  notification_id  bigint not null,                 -- no foreign key: a delivery outlives what it tells of
  tenant           text not null,
  user_id          text not null,
  channel          text not null check (channel in ('webhook', 'email')),
  address          text not null,
  kind             text not null,
  title            text not null,
  body             text not null,
  data             jsonb not null default '{}' check (jsonb_typeof(data) = 'object'),
  state            text not null default 'pending' check (state in ('pending', 'sent', 'dead', 'dropped')),
  attempts         integer not null default 0,      -- started, whatever became of them
  next_attempt_at  timestamptz not null default now(),
  leased_until     timestamptz,                     -- until then it belongs to the worker that sends it
  last_error       text,
  created_at       timestamptz not null default now(),
  sent_at          timestamptz,
  -- What may hang together and so has a limit of its own: a receiver's host, whatever its port; the mail server.
  lane             text collate "C" generated always as (
    case channel
      when 'webhook' then
        'webhook:' || coalesce(left(lower(substring(address from '^\w+://(?:[^/?#]*@)?(\[[^]]*\]|[^/?#:]+)')), 255), '')
      else channel
    end) stored,
  unique (notification_id, channel)
)
-- A claim changes no indexed column, so that with room on the page it costs no index entry. Whoever claims reads over
-- what is dead, so that is to be removed early.
with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

create index deliveries_pending on deliveries (lane, next_attempt_at) where state = 'pending';

-- Claims what is due, for p_lease_seconds, and counts the attempt; p_most at most. The caller's transaction ends before
-- anything is sent: nothing is locked while the far side takes its time, and one that dies is succeeded by another.
--
-- Goes from lane to lane, those after p_after first in order, and takes of each no more than p_per_lane less what the
-- caller has under way there (p_busy of p_lanes): thousands of rows for a far side that hangs are not even looked at.
create function claim_deliveries(
  p_channels text[], p_lanes text[], p_busy integer[], p_per_lane integer, p_after text, p_most integer,
  p_lease_seconds double precision
) returns setof deliveries language plpgsql
-- A plan that was made while the table was small must not read all of it once it has grown.
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  with recursive lanes as (
    (select d.lane from deliveries d where d.state = 'pending' and d.lane > p_after order by d.lane limit 1)
    union all
    select next.lane from lanes l cross join lateral (
      select d.lane from deliveries d where d.state = 'pending' and d.lane > l.lane order by d.lane limit 1
    ) next
  ), due as materialized (
    select one.delivery_id
    from lanes l
    left join unnest(p_lanes, p_busy) as b (lane, busy) on b.lane = l.lane
    cross join lateral (
      select d.delivery_id from deliveries d
      where d.state = 'pending' and d.lane = l.lane and d.next_attempt_at <= now()
        and (d.leased_until is null or d.leased_until <= now()) and d.channel = any(p_channels)
      order by d.next_attempt_at
      limit greatest(0, p_per_lane - coalesce(b.busy, 0))
      for update skip locked
    ) one
    limit p_most
  )
  update deliveries d
  set leased_until = now() + make_interval(secs => p_lease_seconds), attempts = d.attempts + 1
  from due where d.delivery_id = due.delivery_id
  returning d.*;
end $$;

-- Writes what became of attempts: 'sent', 'pending' (another one at p_next) or 'dead', the latter with its dead letter.
-- Told twice it changes nothing. A worker that was given up counts only if its delivery has arrived after all.
create function settle_deliveries(
  p_delivery_id uuid[], p_attempt integer[], p_state text[], p_next timestamptz[], p_error text[], p_payload bytea[]
) returns void language sql as $$
  with settled as (
    update deliveries d
    set state = v.state, next_attempt_at = coalesce(v.next, d.next_attempt_at), leased_until = null,
        last_error = v.error, sent_at = case v.state when 'sent' then clock_timestamp() end
    from unnest(p_delivery_id, p_attempt, p_state, p_next, p_error, p_payload)
      as v (delivery_id, attempt, state, next, error, payload)
    where d.delivery_id = v.delivery_id and d.state = 'pending' and (d.attempts = v.attempt or v.state = 'sent')
    returning d.delivery_id, d.channel, v.state, v.error, v.attempt, v.payload
  )
  insert into dead_letters (message_id, pool, subject, headers, payload, cause, attempts)
  select 'delivery:' || s.delivery_id, 'effects', 'delivery.' || s.channel, '{}', s.payload, s.error, s.attempt
  from settled s where s.state = 'dead'
  on conflict (message_id) do update
    set payload = excluded.payload, cause = excluded.cause, attempts = excluded.attempts, at = now()
$$;

-- Dead or dropped: sends once more, with all its attempts. Answers whether there was such a delivery.
create function redrive_delivery(p_delivery_id uuid) returns boolean language sql as $$
  with back as (
    update deliveries
    set state = 'pending', attempts = 0, next_attempt_at = clock_timestamp(), leased_until = null
    where delivery_id = p_delivery_id and state in ('dead', 'dropped')
    returning delivery_id
  ), letter as (
    delete from dead_letters l using back b where l.message_id = 'delivery:' || b.delivery_id
  )
  select exists (select from back)
$$;

-- Gives a dead delivery up for good. Answers whether there was such a delivery.
create function drop_delivery(p_delivery_id uuid) returns boolean language sql as $$
  with gone as (
    update deliveries set state = 'dropped' where delivery_id = p_delivery_id and state = 'dead'
    returning delivery_id
  ), letter as (
    delete from dead_letters l using gone g where l.message_id = 'delivery:' || g.delivery_id
  )
  select exists (select from gone)
$$;

-- migrate:down
drop function drop_delivery, redrive_delivery, settle_deliveries, claim_deliveries;
drop table deliveries;
