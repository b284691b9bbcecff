delete from dead_letters d using unnest($1::text[], $2::timestamptz[]) as r (message_id, at)
where d.message_id = r.message_id and d.at = r.at
returning d.message_id
