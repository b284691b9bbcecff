-- migrate:up

-- What events have brought about. A row here and the effect itself are one transaction, so each happens once.
create table effects (
  event_id  text not null,
  effect    text not null,
  at        timestamptz not null default clock_timestamp(),
  attempts  integer not null,                     -- how often the event had been given out by then
  primary key (event_id, effect)
);

-- The audit trail: every transition of every order, as its event told it.
create table order_history (
  order_id  uuid not null,
  version   integer not null,
  tenant    text not null,
  event     text not null,
  status    text not null,
  at        timestamptz not null,
  data      jsonb not null,
  primary key (order_id, version)
);

-- Sums by increments, never recomputed. A day is the UTC date of the event's time.
create table daily_figures (
  tenant         text not null,
  day            date not null,
  orders         bigint not null default 0,
  completed      bigint not null default 0,
  cancellations  bigint not null default 0,
  revenue_cents  bigint not null default 0,
  refunds_cents  bigint not null default 0,
  ratings        bigint not null default 0,
  rating_sum     bigint not null default 0,
  primary key (tenant, day)
) with (fillfactor = 50);                         -- one row is updated over and over: room for it on its page

-- Customer service: one for each review that says that something went wrong.
create table tickets (
  ticket_id    text primary key,                  -- derived from the event
  tenant       text not null,
  review_id    text not null,
  order_id     uuid not null,
  provider_id  text not null,
  customer_id  text not null,
  rating       smallint not null,
  status       text not null default 'open' check (status in ('open', 'closed')),
  created_at   timestamptz not null default clock_timestamp(),
  closed_at    timestamptz
);
create index tickets_by_tenant on tickets (tenant, created_at, ticket_id);

-- One row for whoever was ever told anything. Its lock makes the notifications of one user come one transaction after
-- another, so that ids are committed in order: whoever has seen one has missed none before it. Customers and providers
-- are different people even under the same id.
create table inboxes (
  tenant    text not null,
  audience  text not null check (audience in ('customer', 'provider')),
  user_id   text not null,
  newest    bigint not null,                      -- number of the newest notification
  primary key (tenant, audience, user_id)
) with (fillfactor = 70);

create table notifications (
  notification_id  bigint generated always as identity primary key,
  tenant           text not null,
  audience         text not null,
  user_id          text not null,
  number           bigint not null,               -- 1, 2, 3, … in the user's inbox: a gap shows that something is missing
  event_id         text not null,
  kind             text not null,
  title            text not null,
  body             text not null,
  data             jsonb not null,
  created_at       timestamptz not null default clock_timestamp(),
  unique (event_id, audience, user_id, kind)
);
create index notifications_by_user on notifications (tenant, audience, user_id, notification_id);

-- Where a provider goes to, as a box: which providers reach a point is one look into the index, however far the reach
-- of others may be.
alter table providers add column reach cube
  generated always as (earth_box(ll_to_earth(latitude, longitude), radius_m)) stored;
create index providers_by_reach on providers using gist (reach) where active and deleted_at is null;

-- An event and one of its effects, which has not happened before.
create type effect_event as (
  n bigint, effect text, event_id text, subject text, attempts integer, data jsonb, tenant text, at timestamptz,
  order_id uuid, version integer, status text, reason text, customer_id text, provider_id text, sale_id text,
  amount_cents bigint, refunded_cents bigint, expires_at timestamptz, latitude double precision,
  longitude double precision, review_id text, rating integer
);

-- Active providers that go as far as this point, nearest first.
--
-- In a city most of those that are near also come: then the nearest few hold the answer, and thousands that come too are
-- not looked at. Where they do not, there are few in reach, or none.
create function nearby_providers(p_tenant text, p_latitude double precision, p_longitude double precision, p_most integer)
returns table (provider_id text, distance_m double precision) language sql stable as $$
  with nearest as materialized (
    select k.provider_id, k.distance_m from (
      select p.provider_id, p.tenant, p.radius_m,
             earth_distance(p.position, ll_to_earth(p_latitude, p_longitude)) as distance_m
      from providers p where p.active and p.deleted_at is null
      order by p.position <-> ll_to_earth(p_latitude, p_longitude)::cube
      limit 4 * p_most
    ) k
    where k.tenant = p_tenant and k.distance_m <= k.radius_m
  ), enough as (
    select count(*) >= p_most as it_is from nearest
  )
  select n.provider_id, n.distance_m from nearest n where (select it_is from enough)
  union all
  select p.provider_id, earth_distance(p.position, ll_to_earth(p_latitude, p_longitude))
  from providers p
  where not (select it_is from enough) and p.tenant = p_tenant and p.active and p.deleted_at is null
    and p.reach @> ll_to_earth(p_latitude, p_longitude)
    -- The box has corners that are further away than its sides.
    and earth_distance(p.position, ll_to_earth(p_latitude, p_longitude)) <= p.radius_m
  order by 2, 1
  limit p_most
$$;

-- What a notification says to a person.
create function notification_text(
  e effect_event, p_audience text, p_distance_m double precision, out title text, out body text
) language sql immutable as $$
  select t.title, t.body from (values
    ('customer', 'order.created', 'Order received',
     case e.status when 'pending_payment'
       then 'Your order is reserved. Pay before ' || to_char(e.expires_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')
            || ' UTC, or it is cancelled.'
       else 'We have your order. A provider can accept it now.' end),
    ('customer', 'order.rejected', 'Order not accepted',
     case e.reason when 'sold-out' then 'Your order could not be accepted: everything is sold.'
                   when 'limit-reached' then 'Your order could not be accepted: you have as many as a customer may buy.'
                   when 'unknown-pet' then 'Your order could not be accepted: its pet does not exist any more.'
                   when 'unknown-package' then 'Your order could not be accepted: the service is not offered any more.'
                   else 'Your order could not be accepted.' end),
    ('customer', 'order.paid', 'Order paid', 'Your payment has arrived.'),
    ('customer', 'order.accepted', 'Order accepted', 'A provider has accepted your order.'),
    ('customer', 'order.started', 'Service started', 'The provider has started.'),
    ('customer', 'order.completed', 'Service completed', 'Your order is completed. You can review it now.'),
    ('customer', 'order.cancelled', 'Order cancelled',
     case e.reason when 'expired' then 'Your order has expired: it was not paid in time.'
                   when 'cancelled-by-admin' then 'Your order was cancelled by the shop.'
                   else 'Your order is cancelled.' end
       || case when e.refunded_cents > 0 then ' Your payment goes back to you.' else '' end),
    ('customer', 'review.replied', 'Reply to your review', 'The provider has replied to your review.'),
    ('provider', 'order.created', 'New order nearby',
     case when p_distance_m < 1000 then 'A new order is ' || round(p_distance_m) || ' m away from you.'
          else 'A new order is ' || round(p_distance_m::numeric / 1000, 1) || ' km away from you.' end),
    ('provider', 'order.cancelled', 'Order cancelled', 'An order that you had accepted is cancelled.'),
    ('provider', 'review.created', 'New review', 'A customer has given you ' || e.rating || ' of 5.')
  ) as t (audience, kind, title, body)
  where t.audience = p_audience and t.kind = e.subject
$$;

-- Tells whoever is to be told. Providers nearby: at most 50 an order.
create function write_notifications(p_events effect_event[]) returns setof notifications language plpgsql
-- A plan that was made while a table was small must not read all of it once it has grown.
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  with wanted as materialized (
    select e, 'customer' as audience, e.customer_id as user_id, null::double precision as distance_m
    from unnest(p_events) as e where e.effect = 'notify-customer'
    union all
    select e, 'provider', e.provider_id, null from unnest(p_events) as e where e.effect = 'notify-provider'
    union all
    select e, 'provider', p.provider_id, p.distance_m
    from unnest(p_events) as e
    cross join lateral nearby_providers(e.tenant, e.latitude, e.longitude, 50) p
    where e.effect = 'notify-providers'
  ), taken as (
    insert into inboxes as b (tenant, audience, user_id, newest)
    select (w.e).tenant, w.audience, w.user_id, count(*) from wanted w group by 1, 2, 3 order by 1, 2, 3
    on conflict (tenant, audience, user_id) do update set newest = b.newest + excluded.newest
    returning tenant, audience, user_id, newest
  )
  insert into notifications (tenant, audience, user_id, number, event_id, kind, title, body, data)
  select t.tenant, t.audience, t.user_id,
         t.newest + 1 - row_number() over (partition by t.tenant, t.audience, t.user_id order by (w.e).n desc) as number,
         (w.e).event_id, (w.e).subject, words.title, words.body,
         jsonb_strip_nulls(jsonb_build_object(
           'order_id', (w.e).order_id, 'review_id', (w.e).review_id, 'sale_id', (w.e).sale_id, 'status', (w.e).status,
           'reason', (w.e).reason, 'rating', (w.e).rating, 'distance_m', round(w.distance_m)))
  from wanted w
  join taken t on t.tenant = (w.e).tenant and t.audience = w.audience and t.user_id = w.user_id
  cross join lateral notification_text(w.e, w.audience, w.distance_m) as words
  order by t.tenant, t.audience, t.user_id, number
  on conflict do nothing
  returning *;
end $$;

-- What also goes out of the system, to those who have an address there: a webhook gets everything, an e-mail is written
-- for what a person wants to find again.
create function write_deliveries(p_notifications notifications[]) returns void language plpgsql
set enable_seqscan = off
as $$
begin
  insert into deliveries (delivery_id, notification_id, tenant, user_id, channel, address, kind, title, body, data)
  select md5(n.event_id || ' ' || n.audience || ' ' || n.user_id || ' ' || n.kind || ' ' || c.channel)::uuid,
         n.notification_id, n.tenant, n.user_id, c.channel, c.address, n.kind, n.title, n.body, n.data
  from unnest(p_notifications) as n
  cross join lateral (
    select k.webhook_url, k.email from customers k
    where n.audience = 'customer' and k.tenant = n.tenant and k.customer_id = n.user_id and k.deleted_at is null
    union all
    select p.webhook_url, p.email from providers p
    where n.audience = 'provider' and p.tenant = n.tenant and p.provider_id = n.user_id and p.deleted_at is null
  ) as who
  cross join lateral (values
    ('webhook', who.webhook_url),
    ('email', case when (n.audience, n.kind) in (('customer', 'order.created'), ('customer', 'order.paid'),
                                                 ('customer', 'order.cancelled'), ('provider', 'review.created'))
              then who.email end)
  ) as c (channel, address)
  where c.address is not null
  order by n.notification_id, c.channel
  on conflict do nothing;
end $$;

create function add_provider_statistics(p_events effect_event[]) returns void language plpgsql
set enable_seqscan = off
as $$
begin
  perform 1 from providers p
  where p.provider_id in (select e.provider_id from unnest(p_events) as e where e.effect = 'provider-statistics')
  order by p.provider_id for no key update;
  update providers p
  set rating_count = p.rating_count + s.ratings, rating_sum = p.rating_sum + s.rating_sum,
      completed_orders = p.completed_orders + s.completed
  from (
    select e.tenant, e.provider_id, count(e.rating) as ratings, coalesce(sum(e.rating), 0) as rating_sum,
           count(*) filter (where e.subject = 'order.completed') as completed
    from unnest(p_events) as e where e.effect = 'provider-statistics'
    group by e.tenant, e.provider_id
  ) s
  where p.provider_id = s.provider_id and p.tenant = s.tenant;
end $$;

create function add_daily_figures(p_events effect_event[]) returns void language sql as $$
  insert into daily_figures as d (tenant, day, orders, completed, cancellations, revenue_cents, refunds_cents, ratings,
                                  rating_sum)
  select e.tenant, (e.at at time zone 'UTC')::date,
         count(*) filter (where e.subject = 'order.created'),
         count(*) filter (where e.subject = 'order.completed'),
         count(*) filter (where e.subject = 'order.cancelled'),
         coalesce(sum(e.amount_cents) filter (where e.subject = 'order.paid'), 0),
         coalesce(sum(e.refunded_cents) filter (where e.subject = 'order.cancelled'), 0),
         count(e.rating), coalesce(sum(e.rating), 0)
  from unnest(p_events) as e where e.effect = 'daily-figures'
  group by 1, 2 order by 1, 2
  on conflict (tenant, day) do update set
    orders = d.orders + excluded.orders, completed = d.completed + excluded.completed,
    cancellations = d.cancellations + excluded.cancellations, revenue_cents = d.revenue_cents + excluded.revenue_cents,
    refunds_cents = d.refunds_cents + excluded.refunds_cents, ratings = d.ratings + excluded.ratings,
    rating_sum = d.rating_sum + excluded.rating_sum
$$;

-- Which effects these events call for and have not had yet; they are written down as had.
-- A worker that meets an event in another one's hands waits here until that one has committed.
create function claim_effects(p_events jsonb) returns effect_event[] language plpgsql
set enable_seqscan = off
as $$
declare
  v_new effect_event[];
begin
  with incoming as materialized (
    select distinct on (i.event_id) i.n, i.event_id, i.subject, i.attempts, i.data, d.*
    from rows from (jsonb_to_recordset(p_events) as (event_id text, subject text, attempts integer, data jsonb))
      with ordinality as i (event_id, subject, attempts, data, n)
    cross join lateral jsonb_to_record(i.data) as d (
      tenant text, at timestamptz, order_id uuid, version integer, status text, reason text, customer_id text,
      provider_id text, sale_id text, amount_cents bigint, refunded_cents bigint, expires_at timestamptz,
      latitude double precision, longitude double precision, review_id text, rating integer)
    order by i.event_id, i.n
  ), called_for as (
    select i.*, k.effect
    from incoming i
    cross join lateral (values
      ('audit', i.subject like 'order.%'),
      ('daily-figures', i.subject in ('order.created', 'order.completed', 'order.cancelled', 'order.paid',
                                      'review.created')),
      ('provider-statistics', i.subject in ('order.completed', 'review.created') and i.provider_id is not null),
      ('ticket', i.subject = 'review.created' and i.rating <= 2),
      ('notify-customer', i.subject like 'order.%' or i.subject = 'review.replied'),
      ('notify-provider', i.subject in ('order.cancelled', 'review.created') and i.provider_id is not null),
      ('notify-providers', i.subject = 'order.created' and i.sale_id is null and i.latitude is not null
                           and i.longitude is not null)
    ) as k (effect, called_for)
    where k.called_for
  ), fresh as (
    insert into effects (event_id, effect, attempts)
    select c.event_id, c.effect, c.attempts from called_for c order by c.event_id, c.effect
    on conflict do nothing
    returning event_id, effect
  )
  select coalesce(array_agg(
           row(c.n, c.effect, c.event_id, c.subject, c.attempts, c.data, c.tenant, c.at, c.order_id, c.version, c.status,
               c.reason, c.customer_id, c.provider_id, c.sale_id, c.amount_cents, c.refunded_cents, c.expires_at,
               c.latitude, c.longitude, c.review_id, c.rating)::effect_event order by c.n, c.effect), '{}')
  into v_new
  from fresh f join called_for c on c.event_id = f.event_id and c.effect = f.effect;
  return v_new;
end $$;

-- All effects of a batch of events, each once, in one transaction. `p_events`: [{event_id, subject, attempts, data}].
-- Answers {applied, repeated, notifications}: how many events were new, how many not, and what is to be pushed.
--
-- Every kind of row is locked in the order of its keys, and the kinds always in this order, so that workers with the
-- same events in hand wait for each other and never in a circle. The figures of a day, which everybody wants, are last.
create function apply_effects(p_events jsonb) returns jsonb language plpgsql
set enable_seqscan = off
as $$
declare
  v_new effect_event[] := claim_effects(p_events);
  v_told notifications[];
  v_applied bigint := (select count(distinct e.event_id) from unnest(v_new) as e);
begin
  insert into order_history (order_id, version, tenant, event, status, at, data)
  select e.order_id, e.version, e.tenant, e.subject, e.status, e.at, e.data
  from unnest(v_new) as e where e.effect = 'audit' order by e.order_id, e.version
  on conflict do nothing;

  insert into tickets (ticket_id, tenant, review_id, order_id, provider_id, customer_id, rating)
  select 't' || left(encode(sha256(convert_to(e.event_id, 'UTF8')), 'hex'), 24), e.tenant, e.review_id, e.order_id,
         e.provider_id, e.customer_id, e.rating
  from unnest(v_new) as e where e.effect = 'ticket' order by 1
  on conflict do nothing;

  select coalesce(array_agg(n), '{}') into v_told from write_notifications(v_new) as n;
  perform write_deliveries(v_told);
  perform add_provider_statistics(v_new);
  perform add_daily_figures(v_new);
  return jsonb_build_object(
    'applied', v_applied,
    'repeated', (select count(distinct e ->> 'event_id') from jsonb_array_elements(p_events) as e) - v_applied,
    'notifications', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'notification_id', n.notification_id, 'number', n.number, 'tenant', n.tenant, 'audience', n.audience,
        'user_id', n.user_id, 'kind', n.kind, 'title', n.title, 'body', n.body, 'data', n.data, 'at', n.created_at
      ) order by n.notification_id), '[]')
      from unnest(v_told) as n));
end $$;

-- Stable view for auditors (the contract, 7.8).
create view audit_effects as
  select event_id, effect, at, attempts from effects;

-- migrate:down
drop view audit_effects;
drop function apply_effects, claim_effects, add_daily_figures, add_provider_statistics, write_deliveries,
  write_notifications, notification_text, nearby_providers;
drop type effect_event;
drop index providers_by_reach;
alter table providers drop column reach;
drop table notifications, inboxes, tickets, daily_figures, order_history, effects;
