"""The tables as SQLAlchemy sees them: for queries of the web role and of applications, and held against the migrations.

The migrations are the source of truth for what SQLAlchemy does not compare (checks, storage parameters, functions).
Nothing here is written through the ORM: jobs come in by `enqueue` and change state by the statements in `queries/`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP, UUID

metadata = MetaData(schema="outboxkit")

_TIME = TIMESTAMP(timezone=True)
_EMPTY_OBJECT = text("'{}'::jsonb")
_EMPTY_ARRAY = text("'[]'::jsonb")
_NOW = text("clock_timestamp()")

jobs = Table(
    "jobs",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("queue", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'queued'")),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("max_attempts", Integer),
    Column("run_at", _TIME, nullable=False),
    Column("lease_until", _TIME),
    Column("leased_by", UUID(as_uuid=True)),
    Column("rescue_at", _TIME),
    Column("rescues", Integer, nullable=False, server_default=text("0")),
    Column("unique_key", Text),
    Column("traceparent", Text),
    Column("progress", JSONB),
    Column("cancel_requested_at", _TIME),
    Column("result", JSONB),
    Column("errors", JSONB, nullable=False, server_default=_EMPTY_ARRAY),
    Column("created_at", _TIME, nullable=False),
    Column("started_at", _TIME),
    Column("finished_at", _TIME),
    # The outbox id whose Cloud Task was created last: with the job's id it is the task's name.
    Column("handed_over", BigInteger),
    # Rescues that are not held against the job; counted anew from the first hand-over after a claim.
    Column("excused", Integer, nullable=False, server_default=text("0")),
    Index("jobs_queued", "run_at", "id", postgresql_where=text("state = 'queued'")),
    Index("jobs_running", "lease_until", postgresql_where=text("state = 'running'")),
    Index("jobs_rescue", "rescue_at", postgresql_where=text("state = 'queued' and rescue_at is not null")),
    Index("jobs_finished", "finished_at", postgresql_where=text("finished_at is not null")),
    Index("jobs_unique_key", "kind", "unique_key", unique=True, postgresql_where=text("unique_key is not null")),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("queue", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("traceparent", Text),
    Column("due_at", _TIME, nullable=False),
    Column("claims", Integer, nullable=False, server_default=text("0")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("last_error", Text),
    Column("created_at", _TIME, nullable=False),
    Index("outbox_due", "due_at", "id"),
    Index("outbox_job", "job_id"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("queue", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("died_at", _TIME, nullable=False),
    Column("replayed_at", _TIME),
    Column("replayed_by", Text),
    Index("dead_letters_job", "job_id"),
    Index("dead_letters_open", "died_at", "id", postgresql_where=text("replayed_at is null")),
)

trigger_settings = Table(
    "trigger_settings",
    metadata,
    Column("singleton", Boolean, primary_key=True, server_default=text("true")),
    Column("mode_override", Text),
    Column("override_by", Text),
    Column("override_at", _TIME),
    Column("effective_mode", Text),
    Column("published_by", UUID(as_uuid=True)),
    Column("published_at", _TIME),
    Column("problems", JSONB, nullable=False, server_default=_EMPTY_ARRAY),
)

trigger_stats = Table(
    "trigger_stats",
    metadata,
    Column("minute", _TIME, nullable=False),
    Column("mode", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("relay", UUID(as_uuid=True), nullable=False),
    Column("triggers", BigInteger, nullable=False),
    Column("latency_ms", ARRAY(BigInteger), nullable=False),
    PrimaryKeyConstraint("minute", "mode", "outcome", "relay"),
)

processes = Table(
    "processes",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("role", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("details", JSONB, nullable=False, server_default=_EMPTY_OBJECT),
    Column("started_at", _TIME, nullable=False),
    Column("seen_at", _TIME, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", _TIME, nullable=False, server_default=_NOW),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", JSONB, nullable=False, server_default=_EMPTY_OBJECT),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("headers", JSONB, nullable=False, server_default=_EMPTY_OBJECT),
    Column("body", JSONB),
    Column("created_at", _TIME, nullable=False, server_default=_NOW),
    Index("idempotency_keys_created", "created_at"),
)
