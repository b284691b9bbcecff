select version, event, data from order_history
where order_id = $1 and version > $2
order by version
limit $3
