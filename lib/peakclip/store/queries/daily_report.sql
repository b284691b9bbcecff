select d.day::date as day, coalesce(f.orders, 0) as orders, coalesce(f.completed, 0) as completed,
       coalesce(f.cancellations, 0) as cancellations, coalesce(f.revenue_cents, 0) as revenue_cents,
       coalesce(f.refunds_cents, 0) as refunds_cents, coalesce(f.ratings, 0) as ratings,
       coalesce(f.rating_sum, 0) as rating_sum
from generate_series($2::text::date::timestamp, $3::text::date::timestamp, interval '1 day') as d (day)
left join daily_figures f on f.tenant = $1 and f.day = d.day::date
order by d.day
