insert into dead_letters (message_id, pool, subject, headers, payload, cause, attempts)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (message_id) do update
  set headers = excluded.headers, cause = excluded.cause, attempts = excluded.attempts, at = now()
returning at
