select sale_id, initial, available, reserved, sold, per_customer_limit from sales order by sale_id
