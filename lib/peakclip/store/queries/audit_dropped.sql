select message_id, order_ids from dropped_dead_letters
