select drop_delivery($1)
