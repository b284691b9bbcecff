select outcome, (found).* from reply_to_review($1, $2, $3, $4, $5)
