#!/usr/bin/env bash
# Runs a command for every job of one kind that comes due, one at a time, until SIGTERM or SIGINT.
#
#   work.sh KIND COMMAND [ARGUMENT …]
#
# The command finds the job's payload (JSON) on its standard input, and its id and attempt in JOB_ID and JOB_ATTEMPT.
# What it prints is SQL (without COMMIT), which is run in the transaction that completes the job: that takes effect
# exactly once, whatever else it does at least once. Its exit status: 0 done, 65 never again (a dead letter), anything
# else again later. It gets SIGTERM when the job is cancelled, when its lease is lost, when it takes too long and at
# shutdown, and SIGKILL five seconds later.
#
# DATABASE_URL, JOB_LEASE_SECONDS (30), JOB_TIMEOUT_SECONDS (600), JOB_MAX_ATTEMPTS (5), JOB_BACKOFF_SECONDS (5),
# WORKER_POLL_SECONDS (1), WORKER_OVERDUE_SECONDS (0: as in db mode; 60 beside a relay that pushes).
# Needs bash 4.3 and psql.
# Expired leases are swept by the kit's relays and workers: at least one of them must run.
set -uo pipefail

usage() { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 64; }
[ $# -ge 2 ] || usage
case $1 in *[\"\\]*) usage ;; esac
kind=$1
shift

sql=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/sql
lease=${JOB_LEASE_SECONDS:-30} limit=${JOB_TIMEOUT_SECONDS:-600}
tries=${JOB_MAX_ATTEMPTS:-5} backoff=${JOB_BACKOFF_SECONDS:-5}
poll=${WORKER_POLL_SECONDS:-1} overdue=${WORKER_OVERDUE_SECONDS:-0}
job='' attempt='' worker='' command='' status='' why='' stopping='' nap=''
scratch=$(mktemp -d) && trap 'rm -rf "$scratch"' EXIT
trap 'stopping=yes; kill $nap 2>/dev/null' TERM INT
export PGCLIENTENCODING=UTF8 PGCONNECT_TIMEOUT=5 PGAPPNAME=outboxkit-shell

log() { printf '%s %s\n' "${job:-$kind}" "${*//$'\037'/ }" >&2; }

# Runs SQL as psql's other arguments say. The columns of a row are separated by the character 31, which no JSON holds.
query() {
  psql "$DATABASE_URL" -XqAt -F $'\037' -v ON_ERROR_STOP=1 \
    -v job="$job" -v attempt="$attempt" -v worker="$worker" -v lease="$lease" "$@"
}

# Waits so many seconds, or until a child ends or a signal comes.
pause() {
  sleep "$1" >/dev/null 2>&1 &
  nap=$!
  [ -n "$stopping" ] || wait -n
  nap=''
}

claim() {
  local row payload
  row=$(query -v kinds="{\"$kind\": $tries}" -v overdue="$overdue" -v slots=1 -f "$sql/claim_due.sql") || return
  [ "$row" ] || return
  IFS=$'\037' read -r -d '' job attempt _ _ payload _ <<<"$row"
  printf '%s' "$payload" >"$scratch/payload"
  log "attempt $attempt"
}

running() { kill -0 "$command" 2>/dev/null; }

# The command, and whatever it has started.
stop() {
  log "stopping the command: $why"
  kill -TERM -- -"$command" 2>/dev/null
  for _ in {1..50}; do
    running || return
    sleep 0.1
  done
  kill -KILL -- -"$command" 2>/dev/null
}

# A sign of life; sets `why` when the command must stop. Fails when the database is away: perhaps not for long.
beat() {
  local row
  row=$(query -v progress= -f "$sql/heartbeat.sql") || return
  case $row in
    *$'\037t') why=cancelled ;;
    '') still_ours || why=lost ;; # no row: lost, or only locked
  esac
}

still_ours() {
  local row
  row=$(query -f "$sql/read_state.sql") || return 0 # nobody knows; the next sign of life tells
  [[ $row == "$job"$'\037running\037'"$kind"$'\037'"$attempt"$'\037'"$worker"$'\037'* ]]
}

# Runs the command, with signs of life, until it ends or has to. Sets `status`, and `why` if it had to.
run() {
  local every=$(((lease + 2) / 3)) due end=$((SECONDS + limit))
  why='' due=$((SECONDS + every))
  set -m # a process group of its own
  JOB_ID=$job JOB_ATTEMPT=$attempt "$@" <"$scratch/payload" >"$scratch/effects.sql" 2>"$scratch/errors" &
  command=$!
  set +m
  while running; do
    [ "$SECONDS" -lt "$due" ] || { beat && due=$((SECONDS + every)); }
    [ "$SECONDS" -lt "$end" ] || why=timeout # always finite: one that hangs must not keep its job
    [ -z "$stopping" ] || why=shutdown
    if [ -n "$why" ]; then stop; else pause 1; fi
  done
  wait "$command"
  status=$?
}

# Writes down what became of the attempt. Each statement is refused when the lease was lost.
settle() {
  if [ "$why" = lost ]; then
    log 'the lease was lost: somebody else has the job'
  elif [ "$status" = 0 ]; then
    complete || end_attempt completion-failed false
  elif [ "$why" = shutdown ]; then
    query -f "$sql/give_back.sql" >/dev/null && log 'given back'
  elif [ "$why" = cancelled ] || [ "$status" = 65 ]; then
    end_attempt "${why:-handler-failed}" true
  else
    end_attempt "${why:-handler-error}" false
  fi
}

# One transaction: what the command printed, the completion, COMMIT. If that fails, end_attempt finds either the
# completion, which then counts, or an attempt to try again.
complete() {
  query -o /dev/null -v result= -c "begin; set local idle_in_transaction_session_timeout = '10s'" \
    -f "$scratch/effects.sql" -f "$sql/complete_and_commit.sql" 2>"$scratch/errors" && log succeeded
}

end_attempt() {
  local error longest=900 delay row
  # Postgres stores neither NUL nor broken UTF-8, and a failure that cannot be written down would be tried for ever.
  error=$(LC_ALL=C tr -cd '\11\12\40-\176' <"$scratch/errors" | tail -c 2000)
  # Full jitter: anything up to twice as long as after the attempt before.
  [ "$attempt" -gt 10 ] || longest=$((backoff << (attempt - 1)))
  delay=$(((longest < 900 ? longest : 900) * RANDOM / 32767))
  row=$(query -v reason="$1" -v error="${error:-exit status $status}" -v delay="$delay" -v final="$2" \
    -f "$sql/end_attempt.sql") || row='not written down: the lease will expire'
  log "$1: ${row:-refused, the lease was lost}"
}

worker=$(query -c 'select gen_random_uuid()') || exit # random for each start: with the attempt it is the fencing token
log "worker $worker"
while [ -z "$stopping" ]; do
  if claim; then
    run "$@"
    settle
    job=''
  else
    pause "$poll"
  fi
done
log 'shut down'
