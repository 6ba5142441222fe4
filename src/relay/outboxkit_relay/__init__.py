"""The relay: takes due triggers out of the outbox, delivers them to workers, and settles them.

- `relay`: the composition root, and what `outboxkit relay` runs
- `drain`: claims, slots and the way of a row through them, for one endpoint
- `endpoint`: what is known about one endpoint, and what an answer means for it
- `settlement`: writes what became of deliveries, in fenced batches
- `transports`: how a trigger reaches a worker
- `mode`: which mode is in force, and its publication
"""
