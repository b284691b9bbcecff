select event_id, array_agg(effect order by effect) as effects from audit_effects group by event_id
