/*
 * Who locks what in which order: two jobs, an outbox row of each, and every kind of statement that locks several rows, all
 * at once. A deadlock is a state where nobody can take a step though not everybody is done: spin's "invalid end state".
 * (Postgres would end it after a second, at the cost of one of the two.)
 *
 * The rule: jobs in ascending id, then outbox; several rows of outbox only with SKIP LOCKED, and so do heartbeats.
 * Where a statement does not say in which order, Postgres's plan decides: any order.
 */

/* What can be locked, in this order: job 1, job 2, the outbox row of each. */
#define JOB_1 0
#define ROW_1 2
#define ROWS 4
#define NOBODY 255

byte holder[ROWS] = NOBODY;

#define WAITS 1
#define SKIPS 2
#ifndef REACH
#define REACH 0
#endif

/* for update */
inline wait_for(row)
{
    assert(REACH != WAITS || holder[row] == NOBODY);
    d_step { holder[row] == NOBODY -> holder[row] = _pid }
}

/* for update skip locked */
inline skip_locked(row)
{
    if
    :: d_step { holder[row] == NOBODY -> holder[row] = _pid }
    :: d_step { holder[row] != NOBODY -> assert(REACH != SKIPS) }
    fi
}

#define ascending(lock, first) lock(first); lock(first + 1)
#define any_order(lock, first) \
    if \
    :: lock(first); lock(first + 1) \
    :: lock(first + 1); lock(first) \
    fi

inline commit()
{
    d_step { row = 0; /* what it holds is free again */
        do
        :: row == ROWS -> break
        :: row < ROWS && holder[row] == _pid -> holder[row] = NOBODY; row++
        :: row < ROWS && holder[row] != _pid -> row++
        od
    }
}

/* Two of these, with the same ids. */
active [2] proctype claim_by_ids()
{
    byte row;

#ifdef CLAIM_UNORDERED
    any_order(wait_for, JOB_1);
#else
    ascending(wait_for, JOB_1);
#endif
#ifdef CLAIM_WAITS_FOR_TRIGGERS
    any_order(wait_for, ROW_1);
#else
    any_order(skip_locked, ROW_1);
#endif
    commit()
}

/* give_back locks alike. */
active proctype complete_attempts()
{
    byte row;

#ifdef COMPLETION_UNORDERED
    any_order(wait_for, JOB_1);
#else
    ascending(wait_for, JOB_1);
#endif
    commit()
}

active proctype heartbeat()
{
    byte row;

#if defined(HEARTBEAT_UNORDERED_WAITS)
    any_order(wait_for, JOB_1);
#elif defined(HEARTBEAT_WAITS)
    ascending(wait_for, JOB_1);
#else
    any_order(skip_locked, JOB_1);
#endif
    commit()
}

/* Two relays; one is late and settles rows that the other has claimed since. retry_triggers locks alike. */
active [2] proctype ack_triggers()
{
    byte row;

#ifdef SETTLEMENT_WAITS
    any_order(wait_for, ROW_1);
#else
    any_order(skip_locked, ROW_1);
#endif
    commit()
}

active proctype bury_trigger()
{
    byte row;

#ifdef BURIAL_LOCKS_TRIGGER_FIRST
    skip_locked(ROW_1);
    wait_for(JOB_1);
#else
    wait_for(JOB_1);
    skip_locked(ROW_1);
#endif
    commit()
}
