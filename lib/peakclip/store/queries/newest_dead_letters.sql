select message_id, pool, subject, cause, attempts, at
from dead_letters where $1::text is null or pool = $1
order by at desc, message_id desc
limit $2
