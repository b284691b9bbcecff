-- migrate:up

-- Credentials: the key itself is never stored, only its SHA-256.
create table api_keys (
  key_hash    bytea primary key,
  key_id      text not null unique,
  tenant      text not null,
  subject     text not null,                      -- the customer, or the name of the service
  role        text not null check (role in ('customer', 'provider', 'admin', 'service')),
  created_at  timestamptz not null default now(),
  revoked_at  timestamptz
);

create table sales (
  sale_id             text primary key,
  tenant              text not null,
  product             text not null,
  price_cents         bigint not null check (price_cents >= 0),
  initial             bigint not null check (initial >= 0),
  available           bigint not null check (available >= 0),
  reserved            bigint not null default 0 check (reserved >= 0),
  sold                bigint not null default 0 check (sold >= 0),
  opens_at            timestamptz not null,
  closes_at           timestamptz not null check (closes_at > opens_at),
  per_customer_limit  integer not null check (per_customer_limit >= 1),
  pay_within_seconds  integer not null check (pay_within_seconds >= 1),
  fingerprint         text not null,              -- of the request that created it
  created_at          timestamptz not null default now(),
  deleted_at          timestamptz,                -- removed before anybody ordered: nothing is on offer any more
  check (initial = available + reserved + sold)
);
create index sales_by_tenant on sales (tenant, created_at, sale_id) where deleted_at is null;

-- Every order: of a flash sale (sale_id) or an ordinary one (pet, package, service date).
create table orders (
  order_id            uuid primary key,
  tenant              text not null,
  customer_id         text not null,
  sale_id             text,                       -- no foreign key: drain_seckill() judges, a check per row costs
  quantity            integer not null default 1 check (quantity >= 1),
  status              text not null check (status in ('created', 'pending_payment', 'paid', 'accepted', 'started',
                                                      'completed', 'cancelled', 'rejected')),
  reason              text,                       -- why it was rejected or cancelled
  version             integer not null default 1, -- grows by one with every transition
  amount_cents        bigint not null default 0 check (amount_cents >= 0),
  frame_id            text,                       -- the frame it came in; null: it did not wait in line
  fingerprint         text not null,
  transition_keys     jsonb,                      -- the Idempotency-Keys of transitions: {"accepted": "<key>"}
  payment_id          uuid,                       -- the payment that won
  accepted_at         timestamptz not null,
  started_at          timestamptz,                -- when the limiter let it start; null: it did not wait in line
  committed_at        timestamptz not null default clock_timestamp(),
  expires_at          timestamptz,                -- unpaid until then, it is cancelled
  paid_at             timestamptz,
  cancelled_at        timestamptz,
  pet_id              text,
  service_package_id  text,
  service_date        timestamptz,
  address             text,
  latitude            double precision,
  longitude           double precision,
  note                text,
  provider_id         text,
  assigned_at         timestamptz,                -- when a provider accepted it
  service_started_at  timestamptz,
  completed_at        timestamptz
);
-- Serves the per-customer limit at drain, so it holds what counts against the limit and nothing else.
create index orders_by_buyer on orders (sale_id, customer_id)
  where sale_id is not null and status not in ('cancelled', 'rejected');
-- The reaper's sweep.
create index orders_due on orders (expires_at, order_id) where status = 'pending_payment';
-- Lists: all of a tenant, newest first; a customer's own; a provider's own; what any provider could accept, wherever it
-- is. What has a place is found by it (orders_open_by_position).
create index orders_by_tenant on orders (tenant, committed_at, order_id);
create index orders_by_customer on orders (tenant, customer_id, committed_at, order_id);
create index orders_by_provider on orders (tenant, provider_id, committed_at, order_id) where provider_id is not null;
create index orders_open on orders (tenant, committed_at, order_id)
  where provider_id is null and status in ('created', 'paid') and latitude is null;

-- What a committed transaction still owes the rest of the system. Rows are deleted once published.
create table outbox (
  id          bigint generated always as identity primary key,
  message_id  text not null,                      -- Nats-Msg-Id: a repeat of the publication counts once
  subject     text not null,
  increment   bigint,                             -- set: an addition to a counter, not an event
  headers     jsonb not null default '{}',
  payload     text not null default '',
  created_at  timestamptz not null default now()
);

-- An accepted order that lost against an earlier one of the same id: its admission unit went back, once.
create table superseded_reservations (
  order_id  uuid not null,
  frame_id  text not null,
  primary key (order_id, frame_id)
);

create table dead_letters (
  message_id  text primary key,
  pool        text not null,
  subject     text not null,
  headers     jsonb not null,
  payload     bytea not null,
  cause       text not null,
  attempts    integer not null,
  at          timestamptz not null default now()
);

-- Drains one batch: the only place where a flash-sale order becomes a row, and the judge of once-only, of the
-- per-customer limit and of stock. One statement for the caller, one transaction, whatever the batch's size.
--
-- Locking the sales first lets one batch at a time pass per sale; the statements after it read settled rows.
-- Answers how many were created (pending_payment), rejected (with a reason in the row) and repeated: the row was
-- there already, by a redelivery or by a second admission of the same order, whose reservation is then given back
-- exactly once. Times are epoch seconds.
create function drain_seckill(
  p_order_id uuid[], p_tenant text[], p_customer_id text[], p_sale_id text[], p_quantity integer[],
  p_frame_id text[], p_fingerprint text[], p_accepted_at double precision[], p_traceparent text[],
  p_started_at double precision
) returns table (created bigint, rejected bigint, repeated bigint) language plpgsql
-- The arrays' lengths are unknown to the planner, which then nests loops over hundreds of rows; and a plan that was
-- made while the table was small must not read all of it once it has grown.
set enable_nestloop = off
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_created bigint;
  v_rejected bigint;
begin
  perform 1 from sales where sale_id = any(p_sale_id) order by sale_id for update;

  with incoming as materialized (
    select * from unnest(p_order_id, p_tenant, p_customer_id, p_sale_id, p_quantity, p_frame_id, p_fingerprint,
                         p_accepted_at, p_traceparent) with ordinality
      as i (order_id, tenant, customer_id, sale_id, quantity, frame_id, fingerprint, accepted_at, traceparent, n)
  ), known as materialized (
    select o.order_id from orders o where o.order_id = any(p_order_id)
  ), fresh as (
    select distinct on (i.order_id) i.* from incoming i
    where not exists (select from known k where k.order_id = i.order_id)
    order by i.order_id, i.n
  ), bought as materialized (
    select o.sale_id, o.customer_id, sum(o.quantity) as quantity from orders o
    where o.sale_id = any(p_sale_id) and o.customer_id = any(p_customer_id)
      and o.status not in ('cancelled', 'rejected')
    group by o.sale_id, o.customer_id
  ), within_limit as (
    select f.*, s.available, s.pay_within_seconds, s.price_cents, s.sale_id is null as unknown_sale,
           sum(f.quantity) over (partition by f.sale_id, f.customer_id order by f.n)
             + coalesce(b.quantity, 0) <= s.per_customer_limit as within
    from fresh f
    left join sales s on s.sale_id = f.sale_id
    left join bought b on b.sale_id = f.sale_id and b.customer_id = f.customer_id
  ), judged as (
    select w.*,
           -- units left for this order after all earlier ones of the batch
           w.available - (sum(w.quantity) over (partition by w.sale_id, w.within order by w.n) - w.quantity) as left_over
    from within_limit w
  ), inserted as (
    insert into orders (order_id, tenant, customer_id, sale_id, quantity, amount_cents, status, reason, frame_id,
                        fingerprint, accepted_at, started_at, expires_at)
    select j.order_id, j.tenant, j.customer_id, j.sale_id, j.quantity, coalesce(j.price_cents * j.quantity, 0),
           case when j.within and j.quantity <= j.left_over then 'pending_payment' else 'rejected' end,
           case when j.unknown_sale then 'unknown-sale'
                when not j.within then 'limit-reached'
                when j.quantity > j.left_over then 'sold-out' end,
           j.frame_id, j.fingerprint, to_timestamp(j.accepted_at), to_timestamp(p_started_at),
           case when j.within and j.quantity <= j.left_over
                then clock_timestamp() + make_interval(secs => j.pay_within_seconds) end
    from judged j
    order by j.n
    on conflict (order_id) do nothing
    returning order_id, tenant, customer_id, sale_id, quantity, amount_cents, status, reason, version, frame_id,
              expires_at, committed_at
  ), taken as (
    update sales s set available = s.available - t.quantity, reserved = s.reserved + t.quantity
    from (select i.sale_id, sum(i.quantity) as quantity from inserted i
          where i.status = 'pending_payment' group by i.sale_id) t
    where s.sale_id = t.sale_id
  ), events as (
    insert into outbox (message_id, subject, headers, payload)
    select i.order_id || ':' || i.version,
           case i.status when 'rejected' then 'order.rejected' else 'order.created' end,
           case j.traceparent when '' then '{}'::jsonb else jsonb_build_object('traceparent', j.traceparent) end,
           (select row_to_json(e) from (select i.order_id, i.tenant, i.customer_id, i.sale_id, i.quantity, i.status,
                                               i.reason, i.amount_cents, i.version, i.expires_at,
                                               i.committed_at as at) e)::text
    from inserted i join judged j on j.order_id = i.order_id
  ), timers as (
    -- One wake-up of the sweep for each second in which something expires.
    insert into outbox (message_id, subject, headers)
    select distinct 'timer.expiry.' || t.second, 'timer.expiry.' || t.second,
           jsonb_build_object('Nats-Schedule', to_char(to_timestamp(t.second) at time zone 'UTC',
                                                       '"@at "YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                              'Nats-Schedule-Target', 'timer.due.expiry')
    from (select floor(extract(epoch from i.expires_at))::bigint + 1 as second from inserted i
          where i.expires_at is not null) t
  ), given_back as (
    -- A rejection for stock means that more was offered than there is: only what is really left goes back.
    insert into outbox (message_id, subject, increment, headers)
    select 'b-' || i.frame_id || '-' || i.order_id, 'stock.' || i.sale_id,
           case i.reason when 'sold-out' then greatest(0, j.left_over) else i.quantity end,
           json_build_object('Peakclip-Order', i.order_id)
    from inserted i join judged j on j.order_id = i.order_id
    where i.reason = 'limit-reached' or (i.reason = 'sold-out' and j.left_over > 0)
  )
  select count(*) filter (where i.status = 'pending_payment'), count(*) filter (where i.status = 'rejected')
  into v_created, v_rejected
  from inserted i;
  created := v_created;
  rejected := v_rejected;
  repeated := cardinality(p_order_id) - v_created - v_rejected;
  return next;
  if repeated = 0 then
    return;
  end if;

  with repeats as materialized (
    select i.*, (select o.frame_id from orders o where o.order_id = i.order_id) as winner
    from unnest(p_order_id, p_frame_id, p_sale_id, p_quantity) as i (order_id, frame_id, sale_id, quantity)
  ), superseded as (
    insert into superseded_reservations (order_id, frame_id)
    select distinct r.order_id, r.frame_id from repeats r
    where r.winner is distinct from r.frame_id  -- null: it did not wait in line
    on conflict do nothing
    returning order_id, frame_id
  )
  insert into outbox (message_id, subject, increment, headers)
  select distinct on (r.order_id, r.frame_id)
         'b-' || r.frame_id || '-' || r.order_id, 'stock.' || r.sale_id, r.quantity,
         json_build_object('Peakclip-Order', r.order_id)
  from superseded s join repeats r on r.order_id = s.order_id and r.frame_id = s.frame_id;
end $$;

-- Stable views for auditors (the contract, 7.8).
create view audit_orders as
  select order_id, tenant, customer_id, sale_id, status, accepted_at, started_at, committed_at, paid_at, cancelled_at
  from orders;
create view audit_sales as
  select sale_id, initial, available, reserved, sold from sales;
create view audit_dead_letters as
  select message_id, pool, cause, attempts, at from dead_letters;

-- migrate:down
drop function drain_seckill;
drop view audit_dead_letters, audit_sales, audit_orders;
drop table dead_letters, superseded_reservations, outbox, orders, sales, api_keys;
