truncate /* harness */ outboxkit.jobs, outboxkit.outbox, outboxkit.dead_letters
