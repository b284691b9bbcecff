-- migrate:up

-- Credentials: the key itself is never stored, only its SHA-256.
create table api_keys (
  key_hash    bytea primary key,
  key_id      text not null unique,
  tenant      text not null,
  subject     text not null,                      -- the customer, or the name of the service
  role        text not null check (role in ('customer', 'provider', 'admin', 'service')),
  created_at  timestamptz not null default now(),
  revoked_at  timestamptz
);

create table sales (
  sale_id             text primary key,
  tenant              text not null,
  product             text not null,
  price_cents         bigint not null check (price_cents >= 0),
  initial             bigint not null check (initial >= 0),
  available           bigint not null check (available >= 0),
  reserved            bigint not null default 0 check (reserved >= 0),
  sold                bigint not null default 0 check (sold >= 0),
  opens_at            timestamptz not null,
  closes_at           timestamptz not null check (closes_at > opens_at),
  per_customer_limit  integer not null check (per_customer_limit >= 1),
  pay_within_seconds  integer not null check (pay_within_seconds >= 1),
  fingerprint         text not null,              -- of the request that created it
  created_at          timestamptz not null default now(),
  check (initial = available + reserved + sold)
);

create table orders (
  order_id      uuid primary key,
  tenant        text not null,
  customer_id   text not null,
  sale_id       text references sales,
  quantity      integer not null check (quantity >= 1),
  status        text not null check (status in ('pending_payment', 'paid', 'cancelled', 'rejected')),
  reason        text,                             -- why it was rejected: sold-out, limit-reached, unknown-sale
  frame_id      text not null,                    -- the frame whose reservation this order consumed
  fingerprint   text not null,
  accepted_at   timestamptz not null,
  started_at    timestamptz not null,             -- when the limiter let it start
  committed_at  timestamptz not null default clock_timestamp(),
  expires_at    timestamptz,
  paid_at       timestamptz,
  cancelled_at  timestamptz
);
-- Serves the per-customer limit at drain, so it holds what counts against the limit and nothing else.
create index orders_by_buyer on orders (sale_id, customer_id) where status in ('pending_payment', 'paid');
create index orders_by_commit on orders (committed_at);

-- What a committed transaction still owes the rest of the system. Rows are deleted once published.
create table outbox (
  id          bigint generated always as identity primary key,
  message_id  text not null,                      -- Nats-Msg-Id: a repeat of the publication counts once
  subject     text not null,
  increment   bigint,                             -- set: an addition to a counter, not an event
  headers     jsonb not null default '{}',
  payload     text not null default '',
  created_at  timestamptz not null default now()
);

-- An accepted order that lost against an earlier one of the same id: its admission unit went back, once.
create table superseded_reservations (
  order_id  uuid not null,
  frame_id  text not null,
  primary key (order_id, frame_id)
);

create table dead_letters (
  message_id  text primary key,
  pool        text not null,
  subject     text not null,
  headers     jsonb not null,
  payload     bytea not null,
  cause       text not null,
  attempts    integer not null,
  at          timestamptz not null default now()
);

-- Stable views for auditors (the contract, 7.8).
create view audit_orders as
  select order_id, tenant, customer_id, sale_id, status, accepted_at, started_at, committed_at, paid_at, cancelled_at
  from orders;
create view audit_sales as
  select sale_id, initial, available, reserved, sold from sales;
create view audit_dead_letters as
  select message_id, pool, cause, attempts, at from dead_letters;

-- migrate:down
drop view audit_dead_letters, audit_sales, audit_orders;
drop table dead_letters, superseded_reservations, outbox, orders, sales, api_keys;
