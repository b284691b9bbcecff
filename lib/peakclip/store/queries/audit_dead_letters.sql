select message_id, pool, cause, attempts, payload from dead_letters order by at
