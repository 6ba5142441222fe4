/*
 * The tables and the statements that protocol.pml is made of, named as in src/outbox/outboxkit/queries.
 *
 * One job and its outbox rows. Each statement is one indivisible step of whoever runs it: the callers wrap it in d_step, or
 * in atomic where it has a choice. #ifdef marks the rules that can be taken out; README.md lists them.
 */

mtype = { queued, running, succeeded, failed } /* jobs.state */
mtype = { none, ahead, past }                  /* times: jobs.lease_until, jobs.rescue_at */
mtype = { absent, due, claimed }               /* an outbox row: not there, due_at past, due_at ahead */

/* jobs */
mtype state = queued;
byte attempt, max_attempts = MAX_ATTEMPTS;
byte leased_by = NOBODY;
mtype lease_until = none;
mtype rescue_at = none;
byte rescues;
bool locked;       /* by a transaction that is still open */

/* outbox; an id is an index, and is never used again */
mtype outbox[IDS] = absent;
byte claims[IDS];
byte rows;         /* how many there are */
byte ids;          /* the next id */

byte dead_letters; /* those with replayed_at null */

/* What processes remember. A relay: the row it is delivering, and claims as of then (0: it is delivering nothing).
   A worker: the attempt it is at work on (0: none), whatever has become of its lease meanwhile. */
byte id[2], fence[2];
byte token[2];
byte snapshot[2]; /* of a worker's claim that has begun: it sees the outbox ids below this (0: no claim) */

/* What no process can see; the promises are about this. */
byte effects;      /* commits of what the handler wrote through job.session */
bool live[2];      /* the worker was granted a lease, and it has neither ended nor run out */
byte highest;      /* attempt, ever */
bool stale_write;  /* an attempt was ended by one that did not hold the job */

/* ---- outbox ---- */

/* insert into outbox, wherever: a new id, due at once */
inline insert_trigger()
{
#if defined(UPSERT_SAME_ROW) || defined(ENDLESS)
    i = 0;
    do
    :: i < ids && outbox[i] == absent -> i++
    :: else -> break
    od;
#endif
#if defined(UPSERT_SAME_ROW)
    /* unique (job_id), on conflict do update: a row that is still there is made new, its fence included */
    if
    :: i < ids -> outbox[i] = due; claims[i] = 0
    :: else -> assert(ids < IDS); outbox[ids] = due; rows++; ids++
    fi
#elif defined(ENDLESS)
    /* ids come round again, or no state would ever repeat; a second row changes nothing about an endless run */
    if
    :: i < ids -> skip
    :: else -> outbox[0] = due; rows++; ids = 1
    fi
#else
    assert(ids < IDS);
    outbox[ids] = due;
    rows++;
    ids++
#endif
}

inline delete_trigger(row)
{
    outbox[row] = absent;
    claims[row] = 0;
    names = names & ~(1 << row); /* no relay will ask for this name again */
    rows--
}

/* where due_at <= clock_timestamp() … for update skip locked */
inline claim_triggers(r)
{
    i = 0;
    do
    :: outbox[i] != due -> i++
    :: else -> break
    od;
    outbox[i] = claimed;
    claims[i]++;
    id[r] = i;
    fence[r] = claims[i]
}

/* where o.id = s.id and o.claims = s.claims: a row whose lease ran out is its claimer's until another claims it */
#ifdef NO_TRIGGER_FENCE
#define trigger_is_mine(r) (outbox[id[r]] != absent)
#else
#define trigger_is_mine(r) (outbox[id[r]] != absent && claims[id[r]] == fence[r])
#endif

inline ack_triggers(r)
{
    if
    :: trigger_is_mine(r) -> delete_trigger(id[r])
    :: else -> REACHED(LATE_ACK_REFUSED, outbox[id[r]] != absent)
    fi
}

inline retry_triggers(r)
{
    if
    :: trigger_is_mine(r) -> outbox[id[r]] = due
    :: else -> skip
    fi
}

inline bury_trigger(r)
{
    if
    :: trigger_is_mine(r) ->
        delete_trigger(id[r]);
        if
        :: state == queued ->
            REACHED(TRIGGER_BURIED, true);
#ifndef LETTER_LEAVES_JOB_QUEUED
            state = failed;
#endif
            dead_letters++
        :: else ->
            REACHED(BURIAL_FINDS_JOB_RUNNING, state == running);
#ifdef LETTER_FOR_ANY_STATE
            dead_letters++
#endif
        fi
    :: else -> skip
    fi
}

/* The settlement of the mode cloud-tasks: the row goes and rescue_at is set, together. */
inline hand_over(r)
{
    if
    :: trigger_is_mine(r) ->
        delete_trigger(id[r]);
#ifndef HAND_OVER_APART
        if
        :: state == queued -> rescue_at = ahead
        :: else -> skip
        fi
#endif
    :: else -> skip
    fi
}

/* ---- jobs ---- */

inline requeue()
{
    state = queued;
    lease_until = none;
    insert_trigger()
}

inline fail()
{
    state = failed;
    lease_until = none;
    dead_letters++
}

/* A statement that claims is two steps, for READ COMMITTED shows: it takes its snapshot, and later it gets the job's row. Of
   the outbox it deletes what its snapshot shows, but for rows that somebody else may have locked just then: a relay that is
   claiming the row, or settling it. claim_due does the same. */
#ifdef HTTP
#define settling(r) (request[r] == acked || request[r] == refused || request[r] == lost)
#else
#define settling(r) (fence[r] > 0)
#endif
#define settled_by(r, row) (settling(r) && id[r] == row && fence[r] == claims[row])
#if defined(DB) || defined(NO_TRIGGER_LOCKED)
#define may_be_locked(row) false
#else
#define may_be_locked(row) (outbox[row] == due || settled_by(0, row) || settled_by(1, row))
#endif

inline claim_by_ids(w)
{
    state = running;
#ifdef ENDLESS
    attempt = attempt % 2; /* comes round, as ids do */
#endif
    attempt++;
    lease_until = ahead;
    leased_by = w;
    rescue_at = none;
    rescues = 0;
    token[w] = attempt;
    live[w] = true;
    if
    :: attempt > highest -> highest = attempt
    :: else -> skip
    fi;
    i = 0;
    do
    :: i < snapshot[w] && outbox[i] != absent -> delete_trigger(i); i++
    :: i < snapshot[w] && outbox[i] != absent && may_be_locked(i) -> i++
    :: i < snapshot[w] && outbox[i] == absent -> i++
    :: i == snapshot[w] -> break
    od;
    i = 0;
    snapshot[w] = 0
}

/* where id = … and attempt = … and leased_by = … and state = 'running' */
#if defined(NO_FENCE)
#define attempt_is_mine(w) (true)
#elif defined(FENCE_BY_STATE_ALONE)
#define attempt_is_mine(w) (state == running)
#elif defined(FENCE_WITHOUT_STATE)
#define attempt_is_mine(w) (attempt == token[w] && leased_by == w)
#else
#define attempt_is_mine(w) (attempt == token[w] && leased_by == w && state == running)
#endif

#define watch_the_writer(w) stale_write = stale_write || attempt != token[w] || leased_by != w || state != running

inline stop_work(w)
{
    token[w] = 0;
    live[w] = false
}

inline heartbeat(w)
{
    if
    :: attempt_is_mine(w) -> lease_until = ahead; live[w] = true
    :: else -> skip
    fi
}

/* Commits together with what the handler wrote through job.session. */
inline complete_attempt(w)
{
    if
    :: attempt_is_mine(w) ->
        watch_the_writer(w);
        state = succeeded;
        lease_until = none;
        effects++
    :: else -> REACHED(STALE_COMPLETION_REFUSED, live[1 - w])
    fi;
    stop_work(w)
}

/* final: the handler raised Fail */
inline end_attempt(w, final)
{
    if
    :: attempt_is_mine(w) ->
        watch_the_writer(w);
        if
        :: attempt < max_attempts && !final -> requeue()
        :: else -> fail()
        fi
    :: else -> skip
    fi;
    stop_work(w)
}

/* A sync handler's thread cannot be stopped: it goes on after its job was given back. So token stays. */
inline give_back(w)
{
    if
    :: attempt_is_mine(w) ->
        watch_the_writer(w);
#ifdef GIVE_BACK_LOWERS_ATTEMPT
        attempt--;
#else
        max_attempts++;
#endif
        requeue()
    :: else -> skip
    fi;
    live[w] = false
}

/* ---- sweeps (SKIP LOCKED), and the way back ---- */

#ifdef NO_LEASE_CHECK
#define lease_expired (state == running && !locked)
#else
#define lease_expired (state == running && lease_until == past && !locked)
#endif

inline sweep_expired_leases()
{
    if
#ifdef NO_ATTEMPT_BOUND
    :: true -> requeue()
#else
    :: attempt < max_attempts -> requeue()
    :: else ->
        REACHED(EXPIRY_BURIED, true);
        fail();
#ifdef LETTER_APART
        dead_letters-- /* not yet */
#endif
#endif
    fi
}

#ifdef STRANDED_BY_RUN_AT
#define stranded (state == queued && rows == 0 && !locked)
#else
#define stranded (state == queued && rows == 0 && rescue_at == past && !locked)
#endif

inline sweep_stranded()
{
    if
#ifdef STRANDED_BY_RUN_AT
    :: true -> insert_trigger()
#elif defined(NO_RESCUE_BOUND)
    :: true -> rescue_at = ahead; insert_trigger()
#else
    :: rescues < STRANDED_MAX -> rescues++; rescue_at = ahead; insert_trigger()
    :: else -> REACHED(STRANDED_BURIED, true); fail()
#endif
    fi
}

#define can_be_replayed (state == failed && dead_letters > 0 && !locked)

inline replay_dead_letter()
{
    dead_letters--;
    state = queued;
    rescue_at = none;
    rescues = 0;
    if
#ifdef REPLAY_LOWERS_ATTEMPT
    :: true -> attempt = 0
#else
    :: attempt > 0 && max_attempts <= attempt -> max_attempts = attempt + 1
#endif
    :: else -> skip
    fi;
    insert_trigger()
}
