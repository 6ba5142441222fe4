-- The newest revision applied, or null: what readiness compares with the one the code needs.
select max(version_num) from outboxkit.alembic_version where version_num like 'outboxkit%%'
