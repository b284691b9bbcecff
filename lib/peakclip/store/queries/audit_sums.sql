-- What effects keep by increments, beside the same counted anew from what they were made of: the audit trail, and the
-- reviews whose event has had the effect in question.
with counted_figures as (
  select tenant, (at at time zone 'UTC')::date as day,
         count(*) filter (where event = 'order.created') as orders,
         count(*) filter (where event = 'order.completed') as completed,
         count(*) filter (where event = 'order.cancelled') as cancellations,
         coalesce(sum((data ->> 'amount_cents')::bigint) filter (where event = 'order.paid'), 0) as revenue_cents,
         coalesce(sum((data ->> 'refunded_cents')::bigint) filter (where event = 'order.cancelled'), 0) as refunds_cents,
         0::bigint as ratings, 0::bigint as rating_sum
  from order_history group by 1, 2
  union all
  select r.tenant, (r.created_at at time zone 'UTC')::date, 0, 0, 0, 0, 0, count(*), sum(r.rating)
  from reviews r join effects e on e.event_id = r.review_id || ':created' and e.effect = 'daily-figures'
  group by 1, 2
), both_of_them as (
  select tenant, day, 1 as kept, 0 as counted, orders, completed, cancellations, revenue_cents, refunds_cents, ratings,
         rating_sum
  from daily_figures
  union all
  select tenant, day, 0, 1, orders, completed, cancellations, revenue_cents, refunds_cents, ratings, rating_sum
  from counted_figures
), figures as (
  select f.tenant, f.day, n.name, sum(n.number * f.kept)::bigint as kept, sum(n.number * f.counted)::bigint as counted
  from both_of_them f
  cross join lateral (values
    ('orders', f.orders), ('completed', f.completed), ('cancellations', f.cancellations),
    ('revenue_cents', f.revenue_cents), ('refunds_cents', f.refunds_cents), ('ratings', f.ratings),
    ('rating_sum', f.rating_sum)
  ) as n (name, number)
  group by 1, 2, 3
), served as (
  select data ->> 'provider_id' as provider_id, tenant, count(*) as completed from order_history
  where event = 'order.completed' group by 1, 2
), rated as (
  select r.provider_id, r.tenant, count(*) as ratings, sum(r.rating)::bigint as rating_sum
  from reviews r join effects e on e.event_id = r.review_id || ':created' and e.effect = 'provider-statistics'
  group by 1, 2
), tickets_due as (
  select count(*) as number from effects where effect = 'ticket'
)
select 'figures of ' || tenant || ', ' || day || ': ' || name as of, kept, counted from figures
union all
select 'provider ' || p.provider_id || ': ' || k.name, k.kept, k.counted
from providers p
left join served s on s.provider_id = p.provider_id and s.tenant = p.tenant
left join rated r on r.provider_id = p.provider_id and r.tenant = p.tenant
cross join lateral (values
  ('completed_orders', p.completed_orders, coalesce(s.completed, 0)),
  ('rating_count', p.rating_count, coalesce(r.ratings, 0)),
  ('rating_sum', p.rating_sum, coalesce(r.rating_sum, 0))
) as k (name, kept, counted)
union all
select 'tickets of bad reviews', (select count(*) from tickets), (select number from tickets_due)
union all
select 'entries of the audit trail', (select count(*) from order_history),
       (select count(*) from effects where effect = 'audit')
