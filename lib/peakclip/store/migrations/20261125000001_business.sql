-- migrate:up

-- Distances on the globe: `ll_to_earth`, `earth_box`, `earth_distance`. Both are part of every PostgreSQL distribution.
create extension if not exists cube;
create extension if not exists earthdistance;

-- Master data. `fingerprint` is of the request that created a row (16 characters of its key, 16 of its body), and tells
-- a retry from a reused key; what is removed keeps its row (`deleted_at`), since orders name it.
create table providers (
  provider_id       text primary key,             -- the subject of the provider's credential
  tenant            text not null,
  name              text not null,
  latitude          double precision not null check (latitude between -90 and 90),
  longitude         double precision not null check (longitude between -180 and 180),
  radius_m          integer not null check (radius_m between 1 and 500000),
  position          cube generated always as (ll_to_earth(latitude, longitude)) stored,
  email             text,
  webhook_url       text,
  active            boolean not null default true,
  rating_count      bigint not null default 0,
  rating_sum        bigint not null default 0,
  completed_orders  bigint not null default 0,
  fingerprint       text not null,
  created_at        timestamptz not null default now(),
  deleted_at        timestamptz
);
create index providers_by_position on providers using gist (position) where active and deleted_at is null;
create index providers_by_tenant on providers (tenant, created_at, provider_id) where deleted_at is null;

create table customers (
  customer_id  text not null,
  tenant       text not null,
  name         text not null,
  email        text,
  webhook_url  text,
  latitude     double precision check (latitude between -90 and 90),
  longitude    double precision check (longitude between -180 and 180),
  fingerprint  text not null,
  created_at   timestamptz not null default now(),
  deleted_at   timestamptz,
  primary key (tenant, customer_id)
);
create index customers_by_tenant on customers (tenant, created_at, customer_id) where deleted_at is null;
-- A customer's id is not derived from the Idempotency-Key, so that a key is used once is said here.
create unique index customers_by_key on customers (tenant, left(fingerprint, 16));

create table pets (
  pet_id        text primary key,
  tenant        text not null,
  customer_id   text not null,
  name          text not null,
  species       text not null,
  breed         text,
  born_on       date,
  weight_grams  integer check (weight_grams > 0),
  notes         text,
  fingerprint   text not null,
  created_at    timestamptz not null default now(),
  deleted_at    timestamptz
);
create index pets_by_tenant on pets (tenant, created_at, pet_id) where deleted_at is null;
create index pets_by_customer on pets (tenant, customer_id, created_at, pet_id) where deleted_at is null;

create table service_packages (
  service_package_id  text primary key,
  tenant              text not null,
  name                text not null,
  description         text,
  price_cents         bigint not null check (price_cents >= 0),
  duration_minutes    integer not null check (duration_minutes > 0),
  active              boolean not null default true,
  fingerprint         text not null,
  created_at          timestamptz not null default now(),
  deleted_at          timestamptz
);
create index service_packages_by_tenant on service_packages (tenant, created_at, service_package_id)
  where deleted_at is null;

create table reviews (
  review_id    text primary key,
  tenant       text not null,
  order_id     uuid not null unique,              -- one review an order
  customer_id  text not null,
  provider_id  text not null,
  rating       smallint not null check (rating between 1 and 5),
  comment      text,
  reply        text,
  replied_at   timestamptz,
  fingerprint  text not null,
  created_at   timestamptz not null default clock_timestamp()
);
create index reviews_by_provider on reviews (tenant, provider_id, created_at, review_id);

-- Orders that a provider can accept, by where the service takes place. Those of flash sales have no place.
create index orders_open_by_position on orders using gist (ll_to_earth(latitude, longitude))
  where provider_id is null and status in ('created', 'paid') and latitude is not null;

-- A payment that lost (too late, or a second one) has its refund beside it, and so has the payment of a cancelled order.
create table payments (
  payment_id    uuid not null,
  kind          text not null check (kind in ('payment', 'refund')),
  order_id      uuid not null,
  tenant        text not null,
  amount_cents  bigint not null check (amount_cents >= 0),
  at            timestamptz not null default clock_timestamp(),
  primary key (payment_id, kind)                  -- a payment is refunded once
);
create index payments_by_order on payments (order_id);

-- The body of an order's event. `refunded_cents`: what this transition gave back to the customer.
create function order_event(o orders, refunded_cents bigint default 0) returns text language sql stable as $$
  select row_to_json(e)::text from (
    select o.order_id, o.tenant, o.customer_id, o.sale_id, o.quantity, o.status, o.reason, o.amount_cents, o.provider_id,
           o.pet_id, o.service_package_id, o.service_date, o.latitude, o.longitude, o.expires_at, o.version,
           refunded_cents, clock_timestamp() as at
  ) e
$$;

create function emit_order_event(o orders, p_kind text, p_traceparent text, refunded_cents bigint default 0)
returns void language sql as $$
  insert into outbox (message_id, subject, headers, payload)
  values (o.order_id || ':' || o.version, 'order.' || p_kind,
          case coalesce(p_traceparent, '') when '' then '{}'::jsonb
          else jsonb_build_object('traceparent', p_traceparent) end,
          order_event(o, refunded_cents))
$$;

-- Ordinary orders, one or many: validated against pet and package, written with their events in one transaction.
-- `p_orders`: [{order_id, tenant, customer_id, pet_id, service_package_id, service_date, address, latitude, longitude,
-- note, frame_id, fingerprint, accepted_at, traceparent}]. An order that was accepted into the line is kept as
-- `rejected` if it is not valid any more (`p_keep_rejected`); otherwise nothing of it is written. Without a place of its
-- own the service takes place where the customer lives.
-- Answers a row an order: created, rejected or refused with the reason, or repeated.
create function create_orders(p_orders jsonb, p_started_at double precision, p_keep_rejected boolean)
returns table (order_id uuid, outcome text, reason text) language plpgsql as $$
#variable_conflict use_column
begin
  return query
  with incoming as materialized (
    select distinct on (i.order_id) i.*, pk.price_cents, c.latitude as home_latitude, c.longitude as home_longitude,
           case when pt.pet_id is null then 'unknown-pet' when pk.service_package_id is null then 'unknown-package' end
             as refusal
    from jsonb_to_recordset(p_orders) as i (
      order_id uuid, tenant text, customer_id text, pet_id text, service_package_id text, service_date timestamptz,
      address text, latitude double precision, longitude double precision, note text, frame_id text, fingerprint text,
      accepted_at double precision, traceparent text)
    left join pets pt on pt.pet_id = i.pet_id and pt.tenant = i.tenant and pt.customer_id = i.customer_id
      and pt.deleted_at is null
    left join service_packages pk on pk.service_package_id = i.service_package_id and pk.tenant = i.tenant
      and pk.active and pk.deleted_at is null
    left join customers c on c.tenant = i.tenant and c.customer_id = i.customer_id and c.deleted_at is null
    order by i.order_id
  ), inserted as (
    insert into orders (order_id, tenant, customer_id, status, reason, amount_cents, frame_id, fingerprint, accepted_at,
                        started_at, pet_id, service_package_id, service_date, address, latitude, longitude, note)
    select i.order_id, i.tenant, i.customer_id, case when i.refusal is null then 'created' else 'rejected' end,
           i.refusal, coalesce(i.price_cents, 0), i.frame_id, i.fingerprint, to_timestamp(i.accepted_at),
           to_timestamp(p_started_at), i.pet_id, i.service_package_id, i.service_date, i.address,
           coalesce(i.latitude, i.home_latitude), coalesce(i.longitude, i.home_longitude), i.note
    from incoming i
    where p_keep_rejected or i.refusal is null
    on conflict (order_id) do nothing
    returning orders as o
  ), events as (
    select emit_order_event(n.o, case (n.o).status when 'rejected' then 'rejected' else 'created' end, i.traceparent)
    from inserted n join incoming i on i.order_id = (n.o).order_id
  )
  select i.order_id,
         case when (n.o).order_id is not null then (n.o).status
              -- A repeat stays one even if pet or package has gone since.
              when i.refusal is null or exists (select from orders k where k.order_id = i.order_id) then 'repeated'
              else 'refused' end,
         i.refusal
  from incoming i
  left join inserted n on (n.o).order_id = i.order_id
  where (select count(*) from events) >= 0;  -- reads the events, so that they are written
end $$;

-- Stock of a cancelled order goes back, in the row and, through the outbox, on offer. The caller has cancelled the order.
create function return_stock(o orders) returns void language sql as $$
  update sales set available = available + o.quantity,
                   reserved = reserved - case when o.paid_at is null then o.quantity else 0 end,
                   sold = sold - case when o.paid_at is null then 0 else o.quantity end
  where sale_id = o.sale_id;
  insert into outbox (message_id, subject, increment, headers)
  select 'c-' || o.order_id, 'stock.' || o.sale_id, o.quantity, jsonb_build_object('Peakclip-Order', o.order_id)
  where o.sale_id is not null;
$$;

-- One transition of one order: accept, start, complete or cancel. Each is one conditional update; who comes second
-- finds no row. `p_customer_id` null: not only that customer's; `p_provider_id` null: whoever the provider is; `p_key`
-- null: without Idempotency-Key.
-- Outcomes: done; repeated (this key has done this before, whatever happened since); illegal (the order is in another
-- state); not-found; unknown-provider (or an inactive one).
create function transition_order(
  p_tenant text, p_order_id uuid, p_action text, p_customer_id text, p_provider_id text, p_reason text, p_key text,
  p_traceparent text
) returns table (outcome text, found orders) language plpgsql as $$
declare
  o orders;
  v_kind text := case p_action when 'accept' then 'accepted' when 'start' then 'started'
                               when 'complete' then 'completed' when 'cancel' then 'cancelled' end;
  v_now timestamptz := clock_timestamp();
  v_refund bigint := 0;
begin
  update orders set
    status = v_kind, version = version + 1,
    transition_keys = case when p_key is null then transition_keys
                           else coalesce(transition_keys, '{}') || jsonb_build_object(v_kind, p_key) end,
    provider_id = case p_action when 'accept' then p_provider_id else provider_id end,
    assigned_at = case p_action when 'accept' then v_now else assigned_at end,
    service_started_at = case p_action when 'start' then v_now else service_started_at end,
    completed_at = case p_action when 'complete' then v_now else completed_at end,
    cancelled_at = case p_action when 'cancel' then v_now else cancelled_at end,
    reason = case p_action when 'cancel' then p_reason else reason end
  where order_id = p_order_id and tenant = p_tenant and (p_customer_id is null or customer_id = p_customer_id)
    and case p_action
        when 'accept' then status in ('created', 'paid') and exists (
          select from providers p where p.provider_id = p_provider_id and p.tenant = p_tenant and p.active
                                    and p.deleted_at is null)
        when 'start' then status = 'accepted' and (p_provider_id is null or provider_id = p_provider_id)
        when 'complete' then status = 'started' and (p_provider_id is null or provider_id = p_provider_id)
        when 'cancel' then status in ('created', 'pending_payment', 'paid', 'accepted') end
  returning * into o;
  if found then
    if p_action = 'cancel' then
      if o.payment_id is not null then
        insert into payments (payment_id, kind, order_id, tenant, amount_cents)
        values (o.payment_id, 'refund', o.order_id, o.tenant, o.amount_cents);
        v_refund := o.amount_cents;
      end if;
      perform return_stock(o);
    end if;
    perform emit_order_event(o, v_kind, p_traceparent, v_refund);
    return query select 'done', o;
    return;
  end if;
  select * into o from orders
  where order_id = p_order_id and tenant = p_tenant and (p_customer_id is null or customer_id = p_customer_id);
  return query select case
    when o.order_id is null then 'not-found'
    when p_action in ('start', 'complete') and p_provider_id is not null
         and o.provider_id is distinct from p_provider_id
         and (o.provider_id is not null or o.status not in ('created', 'paid')) then 'not-found'
    when o.transition_keys ->> v_kind = p_key and (p_action <> 'accept' or o.provider_id = p_provider_id)
      then 'repeated'
    when p_action = 'accept' and not exists (
      select from providers p where p.provider_id = p_provider_id and p.tenant = p_tenant and p.active
                                and p.deleted_at is null) then 'unknown-provider'
    else 'illegal' end, o;
end $$;

-- A payment was made. It wins if the order is unpaid, alive and not yet due; otherwise it is recorded with its refund.
-- Outcomes: done, repeated (this payment has won before), lost, not-found.
--
-- The order is locked before anything is judged: the same payment twice at the deadline, the first one in time and not
-- yet committed, would otherwise find the order unpaid and due, and refund the payment that wins.
create function pay_order(
  p_tenant text, p_order_id uuid, p_customer_id text, p_payment_id uuid, p_traceparent text
) returns table (outcome text, found orders) language plpgsql
-- A plan that was made while the table was small must not read all of it once it has grown.
set enable_seqscan = off
as $$
declare
  o orders;
  v_now timestamptz;
begin
  select * into o from orders
  where order_id = p_order_id and tenant = p_tenant and (p_customer_id is null or customer_id = p_customer_id)
  for update;
  v_now := clock_timestamp();
  if o.order_id is null then
    return query select 'not-found', null::orders;
  elsif o.payment_id = p_payment_id then
    return query select 'repeated', o;
  elsif o.paid_at is null
    and (o.status in ('created', 'accepted', 'started', 'completed')
         or (o.status = 'pending_payment' and v_now < o.expires_at))
    and not exists (select from payments where payment_id = p_payment_id) then  -- what has lost stays lost
    update orders set status = case when status in ('created', 'pending_payment') then 'paid' else status end,
                      paid_at = v_now, payment_id = p_payment_id, version = version + 1
    where order_id = p_order_id returning * into o;
    insert into payments (payment_id, kind, order_id, tenant, amount_cents)
    values (p_payment_id, 'payment', o.order_id, o.tenant, o.amount_cents);
    update sales set reserved = reserved - o.quantity, sold = sold + o.quantity where sale_id = o.sale_id;
    perform emit_order_event(o, 'paid', p_traceparent);
    return query select 'done', o;
  else
    insert into payments (payment_id, kind, order_id, tenant, amount_cents)
    select p_payment_id, k.kind, o.order_id, o.tenant, o.amount_cents from unnest(array['payment', 'refund']) as k (kind)
    on conflict do nothing;
    return query select 'lost', o;
  end if;
end $$;

-- Cancels those of the orders that are unpaid and due. One transaction; answers how many were, and how many needed
-- nothing (paid, cancelled, or done before). Orders are locked before sales, as everywhere.
create function expire_orders(p_order_id uuid[]) returns table (expired bigint, kept bigint) language plpgsql
set enable_seqscan = off  -- as in pay_order
as $$
declare
  v_due uuid[];
begin
  select coalesce(array_agg(d.order_id), '{}') into v_due from (
    select order_id from orders
    where order_id = any(p_order_id) and status = 'pending_payment' and expires_at <= clock_timestamp()
    order by order_id for update
  ) d;
  perform 1 from sales where sale_id in (select o.sale_id from orders o where o.order_id = any(v_due))
  order by sale_id for update;
  with moved as (
    update orders set status = 'cancelled', reason = 'expired', cancelled_at = clock_timestamp(), version = version + 1
    where order_id = any(v_due)
    returning orders as o
  ), units as materialized (
    select (m.o).sale_id, sum((m.o).quantity) as quantity, min((m.o).order_id::text) as first from moved m
    group by (m.o).sale_id
  ), returned as (
    update sales s set available = s.available + u.quantity, reserved = s.reserved - u.quantity
    from units u where s.sale_id = u.sale_id
  ), on_offer as (
    -- An order expires once, so its id names the movement of the batch for ever.
    insert into outbox (message_id, subject, increment)
    select 'x-' || u.first, 'stock.' || u.sale_id, u.quantity from units u
  )
  insert into outbox (message_id, subject, payload)
  select (m.o).order_id || ':' || (m.o).version, 'order.cancelled', order_event(m.o) from moved m;
  expired := cardinality(v_due);
  kept := (select count(distinct i) from unnest(p_order_id) as i) - expired;
  return next;
end $$;

-- Removes a sale that nobody has ordered from, while its stock is what the caller saw and took from the admission
-- counter. Orders are looked for after the lock: a drain of the same sale is then either visible or yet to come, and
-- finds no stock. Outcomes: removed, has-orders, changed (the stock is another by now), not-found.
create function remove_sale(p_sale_id text, p_tenant text, p_initial bigint) returns text language plpgsql as $$
declare
  s sales;
begin
  select * into s from sales where sale_id = p_sale_id and tenant = p_tenant and deleted_at is null for update;
  if not found then
    return 'not-found';
  end if;
  -- The index knows the living ones; for those that were cancelled or rejected the table is read.
  if exists (select from orders where sale_id = p_sale_id and status not in ('cancelled', 'rejected'))
     or exists (select from orders where sale_id = p_sale_id) then
    return 'has-orders';
  end if;
  if s.initial <> p_initial then
    return 'changed';
  end if;
  update sales set initial = 0, available = 0, deleted_at = now() where sale_id = p_sale_id;
  insert into outbox (message_id, subject, increment)
  select 'd-' || p_sale_id, 'stock.' || p_sale_id, -p_initial where p_initial > 0;
  return 'removed';
end $$;

-- A review of a completed order by its customer. Outcomes: created, repeated, not-found, illegal, already-reviewed.
create function create_review(
  p_review_id text, p_tenant text, p_order_id uuid, p_customer_id text, p_rating integer, p_comment text,
  p_fingerprint text, p_traceparent text
) returns table (outcome text, found reviews) language plpgsql as $$
declare
  r reviews;
  o orders;
begin
  insert into reviews (review_id, tenant, order_id, customer_id, provider_id, rating, comment, fingerprint)
  select p_review_id, k.tenant, k.order_id, k.customer_id, k.provider_id, p_rating, p_comment, p_fingerprint
  from orders k
  where k.order_id = p_order_id and k.tenant = p_tenant and k.customer_id = p_customer_id and k.status = 'completed'
    and k.provider_id is not null
  on conflict do nothing
  returning * into r;
  if found then
    insert into outbox (message_id, subject, headers, payload)
    values (r.review_id || ':created', 'review.created',
            case coalesce(p_traceparent, '') when '' then '{}'::jsonb
            else jsonb_build_object('traceparent', p_traceparent) end,
            (select row_to_json(e)::text from (
              select r.review_id, r.tenant, r.order_id, r.customer_id, r.provider_id, r.rating, r.created_at as at) e));
    return query select 'created', r;
    return;
  end if;
  select * into r from reviews where review_id = p_review_id;
  if found then
    return query select 'repeated', r;
    return;
  end if;
  select * into o from orders where order_id = p_order_id and tenant = p_tenant and customer_id = p_customer_id;
  return query select case
    when o.order_id is null then 'not-found'
    when exists (select from reviews where order_id = p_order_id) then 'already-reviewed'
    else 'illegal' end, null::reviews;
end $$;

-- The provider's answer to a review, once. Outcomes: done, repeated (the same text again), already-replied, not-found.
create function reply_to_review(
  p_review_id text, p_tenant text, p_provider_id text, p_reply text, p_traceparent text
) returns table (outcome text, found reviews) language plpgsql as $$
declare
  r reviews;
begin
  update reviews set reply = p_reply, replied_at = clock_timestamp()
  where review_id = p_review_id and tenant = p_tenant and (p_provider_id is null or provider_id = p_provider_id)
    and reply is null
  returning * into r;
  if found then
    insert into outbox (message_id, subject, headers, payload)
    values (r.review_id || ':replied', 'review.replied',
            case coalesce(p_traceparent, '') when '' then '{}'::jsonb
            else jsonb_build_object('traceparent', p_traceparent) end,
            (select row_to_json(e)::text from (
              select r.review_id, r.tenant, r.order_id, r.customer_id, r.provider_id, r.rating, r.reply,
                     r.replied_at as at) e));
    return query select 'done', r;
    return;
  end if;
  select * into r from reviews
  where review_id = p_review_id and tenant = p_tenant and (p_provider_id is null or provider_id = p_provider_id);
  return query select case when r.review_id is null then 'not-found' when r.reply = p_reply then 'repeated'
                           else 'already-replied' end, r;
end $$;

-- Stable view for auditors (the contract, 7.8).
create view audit_payments as
  select order_id, kind, amount_cents, at from payments;

-- migrate:down
drop view audit_payments;
drop function reply_to_review, create_review, remove_sale, expire_orders, pay_order, transition_order, return_stock,
  create_orders, emit_order_event, order_event;
drop index orders_open_by_position;
drop table payments, reviews, service_packages, pets, customers, providers;
drop extension earthdistance;
drop extension cube;
