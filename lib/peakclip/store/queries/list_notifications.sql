select notification_id, kind, title, body, data, created_at from notifications
where tenant = $1 and audience = $2 and user_id = $3 and notification_id < $4
order by notification_id desc
limit $5
