insert into begun_alone as b (pool, message_id) values ($1, $2)
on conflict (pool, message_id) do update set begun = b.begun + 1, at = now()
returning begun
