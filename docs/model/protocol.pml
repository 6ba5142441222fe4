/*
 * The protocol as a model: one job, from the commit that wrote it together with its trigger until it has succeeded or stands
 * in dead_letters. check.py has spin look at every run there can be within the bounds; README.md says what is left out.
 *
 * A statement is one step (statements.pml). Between two steps of a process everybody else may do anything: that is a message
 * under way, and a process that stands still and later goes on with what it knew.
 *
 * Time: a lease is ahead or past, and may run out at any moment, so every worker may be late. The design itself bounds what
 * comes of that: an expired lease costs an attempt, a lost task a rescue. What it does not bound (a relay's crash, a lost
 * message, a process frozen for good) is bounded by FAULTS, of whatever kinds in whatever order.
 *
 * G2 and G3 are conditions on every state. G4 is checked in two halves: every run ends (there is no cycle of states: spin's
 * search for non-progress cycles, with nothing labelled as progress), and where a run has ended the job is settled
 * (`timeout` in `promises`: nobody can take another step). So no assumption of fairness is needed: whoever is scheduled, and
 * in whatever order, something gets done, and there is only so much to do.
 *
 * -DHTTP: answers come back to the relay. -DCLOUD_TASKS: handed over and forgotten. -DDB: no relay, workers poll.
 * -DPOLLER: workers poll as well. -DBYSTANDER: somebody locks the job's row for a while and rolls back.
 */

#if !defined(HTTP) && !defined(CLOUD_TASKS) && !defined(DB)
#error "define HTTP, CLOUD_TASKS or DB"
#endif
#ifndef MAX_ATTEMPTS
#define MAX_ATTEMPTS 2
#endif
#ifndef STRANDED_MAX
#define STRANDED_MAX 1
#endif
#ifndef REPLAYS
#define REPLAYS 1
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#define IDS 12   /* enough outbox ids: an assertion fails when they are not */
#define NOBODY 2 /* relays, workers and sweepers are 0 and 1 */

/* Without these bounds a run has no end. Then its counters come round, or no two of its states would be the same. */
#if defined(NO_ATTEMPT_BOUND) || defined(NO_RESCUE_BOUND) || defined(STRANDED_BY_RUN_AT)
#define ENDLESS
#endif

/* What is watched: everything, or ONLY one of these. */
#define EVERYTHING 0
#define NOTHING 1
#define NOTHING_VANISHES 2
#define LETTER_IS_TRUE 3
#define ONE_LIVE_LEASE 4
#define TOKENS_DIFFER 5
#define ATTEMPT_NEVER_FALLS 6
#define ONCE 7
#define NO_STALE_WRITE 8
#define DEAD_IS_NOT_RUN 9
#define SETTLED_AT_REST 10
#ifndef ONLY
#define ONLY EVERYTHING
#endif
#define watched(promise) (ONLY == EVERYTHING || ONLY == promise)

/* Where some run must get to, or the promises might be kept by doing nothing. REACH names one: its assertion must fail. */
#define SUCCESS_AFTER_CRASH 1
#define STALE_COMPLETION_REFUSED 2
#define LATE_ACK_REFUSED 3
#define REPLAY_SUCCEEDS 4
#define TRIGGER_BURIED 5
#define BURIAL_FINDS_JOB_RUNNING 6
#define EXPIRY_BURIED 7
#define TRIGGER_LEFT_BEHIND 8
#define GIVEN_BACK_SUCCEEDS 9
#define CLAIM_WAITS 10
#define RESCUE_SUCCEEDS 11
#define STRANDED_BURIED 12
#define TASK_EXISTS_ALREADY 13
#define SURVIVORS_SUCCEED 14
#ifndef REACH
#define REACH 0
#endif
#define REACHED(place, condition) assert(REACH != place || !(condition))
#define remember(place) seen = seen || REACH == place
#define leave gone = gone + (REACH == SURVIVORS_SUCCEED && attempt == 0)
bool seen; /* what REACH names, on the way to a success */
byte gone; /* for good, before the first claim */

#define FOR_EACH_ROW(it) it(0) it(1) it(2) it(3) it(4) it(5) it(6) it(7) it(8) it(9) it(10) it(11)
#define OR_DUE(row) || outbox[row] == due
#define due_row (false FOR_EACH_ROW(OR_DUE))

/* A relay's request: under way, in the hands of worker 0 or 1, answered, or timed out. */
mtype = { idle, sent, with_0, with_1, acked, refused, lost }
mtype request[2] = idle;
byte stray;        /* requests whose answer nobody waits for: duplicates, and those that a relay has given up */
byte tasks;        /* in Cloud Tasks */
short names;       /* of tasks, one bit for each outbox id: CreateTask refuses a name it has seen */
byte session_lock = NOBODY;
byte faults = FAULTS;

#include "statements.pml"

/* ---- triggers on their way ---- */

#ifdef HTTP
#define triggered (request[0] == sent || request[1] == sent || stray > 0)
#else
#define triggered (tasks > 0)
#endif

inline take_trigger(next)
{
    if
#ifdef HTTP
    :: request[0] == sent -> request[0] = next
    :: request[1] == sent -> request[1] = next
    :: stray > 0 -> stray--
#else
    :: tasks--
    :: faults > 0 -> faults-- /* the answer will be lost: the task comes again */
#endif
    fi
}

#define with(w) (w == 0 -> with_0 : with_1)

/* Reaches the relay if it is still waiting. */
inline answer(w, what)
{
    if
    :: request[0] == with(w) -> request[0] = what
    :: request[1] == with(w) -> request[1] = what
    :: else -> skip
    fi
}

inline forget(r)
{
    stray = stray + (request[r] == sent); /* what was sent is still under way */
    id[r] = 0;
    fence[r] = 0;
    request[r] = idle
}

/* Claims a row, sends it, settles: the row's lease may have run out in between. */
proctype relay(byte r)
{
    byte i;

end_idle:
    do
#ifdef HTTP
    :: d_step { fence[r] == 0 && due_row -> claim_triggers(r); request[r] = sent; i = 0 }
    :: d_step { request[r] == acked -> ack_triggers(r); forget(r) }
    :: d_step { request[r] == lost -> retry_triggers(r); forget(r) }
    :: d_step { request[r] == refused && !locked -> bury_trigger(r); forget(r) }
#else
    :: d_step { fence[r] == 0 && due_row ->
        claim_triggers(r);
        if
        :: names & (1 << i) -> REACHED(TASK_EXISTS_ALREADY, true)
        :: else ->
            names = names | (1 << i);
#ifdef ENDLESS
            tasks = tasks % 2; /* comes round */
#endif
            tasks++
        fi;
        i = 0 }
#ifdef HAND_OVER_APART
    :: d_step { fence[r] > 0 && !locked -> hand_over(r); forget(r) };
        if
        :: d_step { state == queued -> rescue_at = ahead }
        :: state != queued
        :: d_step { faults > 0 -> faults-- } /* crashed between the two */
        fi
#else
    :: d_step { fence[r] > 0 && !locked -> hand_over(r); forget(r) }
#endif
#endif
    :: d_step { fence[r] > 0 && faults > 0 -> faults--; forget(r) } /* crashed, and started again */
    :: d_step { r == 0 && faults > 0 -> faults--; forget(r); leave } -> break
    od;
    /* Crashed or frozen for good. That it is the first of its kind is no restriction: they are alike, and one is left. */
end_gone:
    false
}

/* Runs the job. While it is at work on it, with or without its lease, it claims no other attempt at it. */
proctype worker(byte w)
{
    byte i;

end_idle:
    do
    /* A claim by id begins with its snapshot, which must show the job queued. */
#ifndef DB
    :: atomic { token[w] == 0 && snapshot[w] == 0 && triggered && state == queued ->
        take_trigger(with(w)); snapshot[w] = ids }
#endif
#if defined(DB) || defined(POLLER)
    :: d_step { token[w] == 0 && snapshot[w] == 0 && state == queued && !locked -> snapshot[w] = ids }
#endif
    /* It waits for a locked row, and looks again at the row it gets: */
    :: atomic { snapshot[w] > 0 && state == queued && !locked ->
        claim_by_ids(w); answer(w, acked); REACHED(TRIGGER_LEFT_BEHIND, rows > 0) }
    /* no longer queued; so says the state read afresh, and that is answered; */
    :: d_step { snapshot[w] > 0 && state != queued -> snapshot[w] = 0; answer(w, acked) }
    /* or that says queued once more, and the claim is made again. */
    :: d_step { snapshot[w] > 0 && snapshot[w] != ids && state == queued -> snapshot[w] = ids }
#ifdef CLAIM_SKIP_LOCKED_ACKED
    :: d_step { snapshot[w] > 0 && locked -> snapshot[w] = 0; answer(w, acked) } /* "somebody else has it" */
#endif
#ifdef COMMIT_APART
    :: d_step { token[w] > 0 && !locked && attempt_is_mine(w) -> locked = true };
        if
        :: d_step { complete_attempt(w); locked = false }
        :: d_step { w == 0 && faults > 0 -> faults-- } -> break /* frozen for good, its transaction open */
        fi
#else
    :: d_step { token[w] > 0 && !locked -> complete_attempt(w) }
#endif
    :: d_step { token[w] > 0 && !locked -> end_attempt(w, false); i = 0 }
    :: d_step { token[w] > 0 && !locked -> end_attempt(w, true); i = 0 }
    :: d_step { live[w] && !locked && faults > 0 -> faults--; give_back(w); remember(GIVEN_BACK_SUCCEEDS); i = 0 }
    /* A lease that has run out is as good as new until a sweep has found it. Not for ever: each time costs a fault. */
    :: d_step { token[w] > 0 && lease_until == past && !locked && faults > 0 -> faults--; heartbeat(w) }
    /* Killed, perhaps by what the job carries, and started again. */
    :: d_step { token[w] > 0 -> stop_work(w); remember(SUCCESS_AFTER_CRASH) }
    :: d_step { w == 0 && faults > 0 -> faults--; leave } -> break
    od;
    /* Frozen for good, at work or not: whoever waits for its answer waits in vain. */
    atomic {
        answer(w, lost);
#ifdef CLOUD_TASKS
        tasks = tasks + (snapshot[w] > 0);
#endif
        snapshot[w] = 0
    }
end_gone:
    false
}

#define task_was_last (REACH == RESCUE_SUCCEEDS && state == queued && tasks + rows + snapshot[0] + snapshot[1] == 0)

/* The answers that need no claim; any worker gives them. */
proctype endpoint()
{
end_idle:
    do
    :: atomic { triggered && state != queued -> take_trigger(acked) } /* 202 or 200: it runs elsewhere, or is settled */
#ifdef HTTP
    :: atomic { triggered && faults > 0 -> faults--; take_trigger(refused) } /* 400 or 422: a release that cannot do it */
#endif
#if defined(CLOUD_TASKS) && !defined(STRANDED_BY_RUN_AT)
    /* Refused or failed until Cloud Tasks dropped it, without a word. STRANDED_BY_RUN_AT must do harm without that. */
    :: d_step { tasks > 0 -> tasks--; seen = seen || task_was_last }
#endif
    od
}

/* A message is lost, comes twice, or so late that its relay has given up waiting. */
#define LOSE(r) \
    :: d_step { faults > 0 && request[r] != idle && request[r] != lost -> faults--; request[r] = lost } \
    :: d_step { faults > 0 && request[r] == sent -> faults--; stray++ } \
    :: d_step { faults > 0 && request[r] == sent -> faults--; stray++; request[r] = lost }

proctype network()
{
end_idle:
    do
    LOSE(0)
    LOSE(1)
    od
}

#if defined(SESSION_LOCK_SWEEPER)
#define elected(k) (session_lock == k)
#else
#define elected(k) (true)
#endif

/* Relays and workers both sweep: two of them, at the same time if it comes to that. */
proctype sweeper(byte k)
{
    byte i;

end_idle:
    do
#ifdef SESSION_LOCK_SWEEPER
    :: d_step { session_lock == NOBODY && (lease_expired || stranded) -> session_lock = k }
    :: d_step { session_lock == k && !lease_expired && !stranded -> session_lock = NOBODY }
#endif
#ifndef NO_LEASE_SWEEP
    :: d_step { lease_expired && elected(k) -> sweep_expired_leases(); i = 0 }
#ifdef LETTER_APART
        if
        :: d_step { state == failed && dead_letters == 0 -> dead_letters++ }
        :: state != failed || dead_letters > 0
        :: d_step { faults > 0 -> faults-- } /* crashed between the two */
        fi
#endif
#endif
#ifndef NO_STRANDED_SWEEP
    :: d_step { stranded && elected(k) -> sweep_stranded(); i = 0 }
#endif
    :: d_step { k == 0 && faults > 0 -> faults--; leave } -> break
    od;
end_gone:
    false
}

/* A claimed trigger comes due again when its lease runs out: sooner or later if its relay is gone, and by a fault (it was
   frozen) if it is not. */
#define in_delivery(row) (fence[0] == claims[row] && id[0] == row || fence[1] == claims[row] && id[1] == row)
#define EXPIRE(row) \
    :: d_step { outbox[row] == claimed && !in_delivery(row) -> outbox[row] = due } \
    :: d_step { outbox[row] == claimed && in_delivery(row) && faults > 0 -> faults--; outbox[row] = due }

proctype clock()
{
end_idle:
    do
    :: d_step { lease_until == ahead -> lease_until = past; live[leased_by] = false }
    :: d_step { rescue_at == ahead -> rescue_at = past }
    FOR_EACH_ROW(EXPIRE)
    /* What could go wrong does not: or a run in need of a fault to go on would not be seen to be stuck. */
    :: d_step { faults > 0 -> faults-- }
    od
}

/* May replay a dead letter, or look away. */
proctype person()
{
    byte i, replays = REPLAYS;

end_idle:
    do
    :: d_step { replays > 0 && can_be_replayed -> replays--; replay_dead_letter(); remember(REPLAY_SUCCEEDS); i = 0 }
    :: d_step { replays > 0 -> replays = 0 }
    od
}

/* A transaction on the job's row that comes to nothing: a cancel in a caller's own transaction, say. */
proctype bystander()
{
end_idle:
    d_step { !locked -> locked = true };
    d_step { REACHED(CLAIM_WAITS, snapshot[0] > 0 && state == queued); locked = false }
}

#define nothing_vanishes (state != queued || rows > 0 || rescue_at != none || dead_letters > 0)
#define letter_is_true (dead_letters == (state == failed))
#define dead_is_not_run (state != running || dead_letters == 0)
#define one_live_lease (!(live[0] && live[1]))
#define tokens_differ (token[0] == 0 || token[0] != token[1])
#define attempt_never_falls (attempt >= highest)
#define once (effects == (state == succeeded))
#ifdef DB
#define settled (state == succeeded || state == failed && dead_letters == 1)
#else
#define settled ((state == succeeded || state == failed && dead_letters == 1) && rows == 0)
#endif

/* Looks on: takes a step only when a promise is broken, or when nobody else can take one any more. */
proctype promises()
{
end_kept:
    if
    /* G2: a queued job has a trigger, or a time when a sweep looks for it, or somebody can see it. */
    :: atomic { watched(NOTHING_VANISHES) && !nothing_vanishes -> assert(nothing_vanishes) }
    /* G2: a failed job has one open letter, any other job none; above all, none that is running. */
    :: atomic { watched(LETTER_IS_TRUE) && !letter_is_true -> assert(letter_is_true) }
    :: atomic { watched(DEAD_IS_NOT_RUN) && !dead_is_not_run -> assert(dead_is_not_run) }
    /* G3: at most one worker has a lease that has not run out; no two are at work on the same attempt. */
    :: atomic { watched(ONE_LIVE_LEASE) && !one_live_lease -> assert(one_live_lease) }
    :: atomic { watched(TOKENS_DIFFER) && !tokens_differ -> assert(tokens_differ) }
    :: atomic { watched(ATTEMPT_NEVER_FALLS) && !attempt_never_falls -> assert(attempt_never_falls) }
    /* G3: what the handler wrote took effect once if the job has succeeded, and otherwise not at all. */
    :: atomic { watched(ONCE) && !once -> assert(once) }
    :: atomic { watched(NO_STALE_WRITE) && stale_write -> assert(!stale_write) }
    /* G4, second half: where a run ends, the job is settled, and no trigger is left unless the mode is db. */
    :: atomic { watched(SETTLED_AT_REST) && timeout -> assert(settled) }
    /* Some run got where it had to. */
    :: atomic { (seen || gone == 3) && state == succeeded -> assert(false) }
    fi
}

init
{
    byte i;

#ifdef TWO_WRITES
    if
    :: d_step { insert_trigger(); i = 0 }
    :: d_step { faults > 0 -> faults-- } /* crashed between the two commits */
    fi;
#else
    d_step { insert_trigger(); i = 0 } /* enqueue_job: the job and its trigger, one transaction */
#endif
    atomic {
#ifndef DB
        run relay(0);
        run relay(1);
        run endpoint();
#endif
#ifdef HTTP
        run network();
#endif
#ifdef BYSTANDER
        run bystander();
#endif
        run worker(0);
        run worker(1);
        run sweeper(0);
        run sweeper(1);
        run clock();
        run person();
        run promises()
    }
}
