select id, message_id, subject, increment, headers, payload
from outbox order by id limit $1 for update skip locked
