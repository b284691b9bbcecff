delete from begun_alone where pool = $1 and message_id = $2
