select * from reviews
where tenant = $1 and (created_at, review_id) < ($2, $3) and provider_id = $5
order by created_at desc, review_id desc
limit $4
