select expired, kept from expire_orders($1::uuid[])
