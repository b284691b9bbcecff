select message_id, pool, subject, headers, payload, cause, attempts, at
from dead_letters where message_id = any($1::text[])
