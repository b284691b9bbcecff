select redrive_delivery($1)
