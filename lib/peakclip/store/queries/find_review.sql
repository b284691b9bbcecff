select * from reviews where review_id = $1 and tenant = $2
