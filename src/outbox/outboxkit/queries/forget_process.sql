-- An orderly goodbye.
delete from outboxkit.processes where id = %(id)s
