select exists (select from outboxkit.jobs where id = %(id)s)
