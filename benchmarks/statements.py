"""SQL of the designs that Peakclip is compared with. They write the same rows as Peakclip's drain does.

In each, the sale's row comes last or is held for one statement only: every order of a sale needs that row, so the
time that it is locked is what limits a design with one transaction per order.
"""

from __future__ import annotations

from typing import Final

INSERT_ORDER: Final = """
insert into orders (order_id, tenant, customer_id, sale_id, quantity, status, frame_id, fingerprint, accepted_at,
                    started_at, expires_at)
values ($1, $2, $3, $4, $5, 'pending_payment', '', $6, now(), now(), now() + make_interval(secs => $7))
on conflict (order_id) do nothing
returning true
"""

BOUGHT: Final = """
select coalesce(sum(quantity), 0) <= (select per_customer_limit from sales where sale_id = $1)
from orders where sale_id = $1 and customer_id = $2 and status in ('pending_payment', 'paid')
"""

INSERT_EVENT: Final = """
insert into outbox (message_id, subject, payload)
values ($1::uuid || ':1', 'order.created',
        json_build_object('order_id', $1::uuid, 'tenant', $2::text, 'customer_id', $3::text, 'sale_id', $4::text,
                          'quantity', $5::integer, 'status', 'pending_payment', 'reason', null, 'at', now())::text)
"""

TAKE_STOCK: Final = """
update sales set available = available - $2, reserved = reserved + $2
where sale_id = $1 and available >= $2
returning true
"""

# The three in one round trip; no row comes back for a repeat and for a sale that is sold out.
ORDER_IN_ONE_CALL: Final = """
with taken as (
  update sales set available = available - $5, reserved = reserved + $5
  where sale_id = $4 and available >= $5 and not exists (select from orders where order_id = $1)
  returning true
), inserted as (
  insert into orders (order_id, tenant, customer_id, sale_id, quantity, status, frame_id, fingerprint, accepted_at,
                      started_at, expires_at)
  select $1, $2, $3, $4, $5, 'pending_payment', '', $6, now(), now(), now() + make_interval(secs => $7) from taken
  returning order_id, tenant, customer_id, sale_id, quantity, status, committed_at
)
insert into outbox (message_id, subject, payload)
select i.order_id || ':1', 'order.created',
       json_build_object('order_id', i.order_id, 'tenant', i.tenant, 'customer_id', i.customer_id, 'sale_id', i.sale_id,
                         'quantity', i.quantity, 'status', i.status, 'reason', null, 'at', i.committed_at)::text
from inserted i
returning true
"""

FINGERPRINT: Final = "select fingerprint from orders where order_id = $1"
