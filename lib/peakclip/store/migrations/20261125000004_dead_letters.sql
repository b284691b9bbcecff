-- migrate:up

-- Lists and counts, of all or of one pool.
create index dead_letters_by_time on dead_letters (at, message_id);
create index dead_letters_by_pool on dead_letters (pool, at, message_id);

-- What somebody has given up on purpose. The message itself is gone; the auditor must not take its orders for lost.
create table dropped_dead_letters (
  id          bigint generated always as identity primary key,
  message_id  text not null,
  pool        text not null,
  subject     text not null,
  cause       text not null,
  attempts    integer not null,
  died_at     timestamptz not null,
  dropped_at  timestamptz not null default clock_timestamp(),
  order_ids   jsonb not null                      -- the orders inside, as far as the message could be read
);

-- Messages that a worker works on by themselves, since their batches may have ended other workers: one that stays here
-- was in the hands of a worker when it died.
create table begun_alone (
  pool        text not null,
  message_id  text not null,
  begun       integer not null default 1,         -- times, without an end
  at          timestamptz not null default now(),
  primary key (pool, message_id)
);

-- migrate:down
drop table begun_alone, dropped_dead_letters;
drop index dead_letters_by_pool, dead_letters_by_time;
