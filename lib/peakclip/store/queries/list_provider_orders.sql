-- What is assigned to the provider, and what it could accept: what is near it, and what has no place. Each part is
-- found by an index of its own.
with me as (
  select latitude, longitude, radius_m, position from providers
  where provider_id = $6 and tenant = $1 and active and deleted_at is null
), mine as (
  select * from orders
  where tenant = $1 and provider_id = $6 and (committed_at, order_id) < ($2, $3::uuid)
    and ($5::text is null or status = $5)
  order by committed_at desc, order_id desc
  limit $4
), near as (
  select o.* from me join orders o
    on earth_box(me.position, me.radius_m) @> ll_to_earth(o.latitude, o.longitude)
  where o.provider_id is null and o.status in ('created', 'paid') and o.latitude is not null
    and earth_distance(me.position, ll_to_earth(o.latitude, o.longitude)) <= me.radius_m
    and o.tenant = $1 and (o.committed_at, o.order_id) < ($2, $3::uuid) and ($5::text is null or o.status = $5)
  order by o.committed_at desc, o.order_id desc
  limit $4
), anywhere as (
  select o.* from orders o
  where o.tenant = $1 and o.provider_id is null and o.status in ('created', 'paid') and o.latitude is null
    and (o.committed_at, o.order_id) < ($2, $3::uuid) and ($5::text is null or o.status = $5)
    and exists (select from me)
  order by o.committed_at desc, o.order_id desc
  limit $4
)
select * from (table mine union all table near union all table anywhere) found
order by committed_at desc, order_id desc
limit $4
