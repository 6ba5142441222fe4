-- What the server has done so far. Statements: all of one database but the harness's own, which are marked. Transactions: the
-- next transaction id, which only a transaction that writes takes. WAL: bytes since the beginning.
select (
           select coalesce(sum(s.calls), 0)
           from pg_stat_statements s join pg_database d on d.oid = s.dbid
           where d.datname = %(database)s and s.query not like '%%harness%%'
       )::bigint as statements,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint as transactions,
       (pg_current_wal_insert_lsn() - '0/0')::bigint as wal_bytes
