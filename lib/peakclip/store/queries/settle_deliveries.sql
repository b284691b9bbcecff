select settle_deliveries($1, $2, $3,
  (select array_agg(clock_timestamp() + make_interval(secs => w.seconds) order by w.n)
   from unnest($4::float8[]) with ordinality as w (seconds, n)),
  $5, $6)
