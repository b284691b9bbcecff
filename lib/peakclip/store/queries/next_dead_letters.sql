select message_id, pool, subject, headers, payload, cause, attempts, at
from dead_letters
where ($1::text is null or pool = $1) and at <= $2 and (at, message_id) > ($3, $4)
order by at, message_id
limit $5
