/*
 * Two sweeps of stranded jobs at once, as READ COMMITTED runs them: a statement takes its snapshot, locks the row, and looks
 * again at that row alone (at its newest version, if it has changed since). What the condition says of other tables,
 * `not exists (select from outbox …)`, is not looked at again. One stranded job is to get one trigger.
 */

bool rescue_past = true; /* jobs.rescue_at < clock_timestamp() */
byte version;            /* of the job's row */
bool locked;
byte rows;               /* in outbox */
byte sweeps;             /* that have ended */

#ifndef REACH
#define REACH 0
#endif
#define SKIPPED 1
#define SEEN_AGAIN 2

active [2] proctype sweep_stranded()
{
    bool found;
    byte seen;

    d_step { found = rescue_past && rows == 0; seen = version } /* the snapshot */
    if
    :: !found -> goto done
    :: else -> skip
    fi;
#ifdef WAITS_FOR_LOCK
    d_step { !locked -> locked = true };
#else
    if
    :: d_step { !locked -> locked = true }
    :: d_step { locked -> assert(REACH != SKIPPED) }; goto done
    fi;
#endif
    if
    :: d_step { version != seen && !rescue_past -> found = false; assert(REACH != SEEN_AGAIN) }
    :: d_step { version == seen || rescue_past -> skip } /* as found */
    fi;
    /* What it writes is seen by others from here on. */
    if
#ifdef RESCUE_NOT_WRITTEN
    :: d_step { found -> rows++; locked = false }
#else
    :: d_step { found -> rows++; rescue_past = false; version++; locked = false }
#endif
    :: d_step { !found -> locked = false }
    fi;
done:
    sweeps++
}

active proctype promises()
{
    sweeps == 2;
    assert(rows == 1)
}
