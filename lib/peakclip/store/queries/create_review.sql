select outcome, (found).* from create_review($1, $2, $3, $4, $5, $6, $7, $8)
