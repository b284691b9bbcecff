select pool, count(*) as letters from dead_letters group by pool
