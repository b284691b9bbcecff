select remove_sale($1, $2, $3)
