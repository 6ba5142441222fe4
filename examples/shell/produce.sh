#!/usr/bin/env bash
# Enqueues a job in one transaction with the application's own SQL, and prints the job's id.
#
#   produce.sh [-f FILE] [-k UNIQUE_KEY] [-n MAX_ATTEMPTS] [-q QUEUE] [-t RUN_AT] KIND [PAYLOAD]
#
# -f: SQL of the application, committed together with the job, or not at all. PAYLOAD: JSON, {} when left out.
# DATABASE_URL: where. A password is better off in PGPASSWORD or ~/.pgpass: everybody can read a process's arguments.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
file=/dev/null unique_key='' max_attempts='' queue=default run_at=''
while getopts f:k:n:q:t: option; do
  case $option in
    f) file=$OPTARG ;;
    k) unique_key=$OPTARG ;;
    n) max_attempts=$OPTARG ;;
    q) queue=$OPTARG ;;
    t) run_at=$OPTARG ;;
    *) exit 64 ;;
  esac
done
shift $((OPTIND - 1))
[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 64; }

export PGCLIENTENCODING=UTF8
exec psql "$DATABASE_URL" -XqAt -v ON_ERROR_STOP=1 -v here="$here" -v file="$file" \
  -v kind="$1" -v payload="${2:-"{}"}" -v queue="$queue" -v run_at="$run_at" -v unique_key="$unique_key" \
  -v max_attempts="$max_attempts" -v traceparent="${TRACEPARENT:-}" <<'SQL'
begin;
\o /dev/null
\i :file
\o
\cd :here
\i sql/enqueue.sql
commit;
\i sql/wake.sql
SQL
