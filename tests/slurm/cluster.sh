#!/usr/bin/env bash
# A Slurm of one node on this machine, for as long as a command runs:
#
#   tests/slurm/cluster.sh COMMAND …
#
# Everything is kept in a folder of its own, which is gone afterwards, as are the daemons; nothing of another Slurm is
# touched. Needs root, and of Debian: apt-get install slurm-wlm slurmdbd munge mariadb-server
set -euo pipefail

for program in slurmctld slurmd slurmdbd munged mariadbd mariadb-install-db; do
    command -v "$program" >/dev/null || {
        echo "$0: no $program: apt-get install slurm-wlm slurmdbd munge mariadb-server" >&2
        exit 69
    }
done
[ "$(id -u)" = 0 ] || { echo "$0: run it as root" >&2; exit 77; }
[ $# -gt 0 ] || { sed -n '2,7s/^# \?//p' "$0" >&2; exit 64; }

folder=$(mktemp -d /tmp/slurm.XXXXXX)
chmod 755 "$folder"
node=$(hostname -s)
daemons=()

down() {
    if [ ${#daemons[@]} -ge 5 ]; then
        scancel --user root 2>/dev/null || true
        for _ in {1..100}; do [ -z "$(squeue --noheader 2>/dev/null)" ] && break; sleep 0.1; done
    fi
    for daemon in "${daemons[@]}"; do
        kill "$daemon" 2>/dev/null || true
        for _ in {1..100}; do kill -0 "$daemon" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$daemon" 2>/dev/null || true
    done
    rm -rf "$folder"
}
trap down EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME COMMAND…: in the background, out of reach of a Ctrl-C; all are ended in the reverse order
start() {
    setsid "${@:2}" >"$folder/$1.out" 2>&1 &
    daemons=($! "${daemons[@]}")
}

# answers NAME COMMAND…: wait until the command succeeds
answers() {
    for _ in {1..150}; do
        "${@:2}" >/dev/null 2>&1 && return
        sleep 0.2
    done
    echo "$0: $1 does not answer" >&2
    tail -n 20 "$folder"/*.out >&2
    exit 1
}

mkdir -p "$folder"/{munge,database,state,spool}
(umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
start munged munged --foreground --force --key-file "$folder/munge.key" --socket "$folder/munge/socket" \
    --pid-file "$folder/munge/pid" --log-file "$folder/munge/log" --seed-file "$folder/munge/seed"
answers munged munge --socket "$folder/munge/socket" --no-input

# without a database there is no sacct, and submitit would wait for ever for a job that was cancelled
mariadb-install-db --no-defaults --user=root --auth-root-authentication-method=normal \
    --datadir="$folder/database" --skip-test-db >"$folder/install.out" 2>&1
start mariadbd mariadbd --no-defaults --user root --datadir "$folder/database" --socket "$folder/database.socket" \
    --skip-networking --pid-file "$folder/database.pid" --innodb-lock-wait-timeout 900
export MYSQL_UNIX_PORT="$folder/database.socket"
answers mariadbd mariadb --no-defaults --socket "$folder/database.socket" --execute "select 1"

cat >"$folder/slurmdbd.conf" <<END
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
DbdHost=localhost
DbdPort=26819
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
PidFile=$folder/slurmdbd.pid
END
chmod 600 "$folder/slurmdbd.conf"
cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
SlurmUser=root
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=26819
AccountingStoragePass=$folder/munge/socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,requeue_setup_env_fail
ReturnToService=2
KillWait=2
MailProg=/bin/true
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000
PartitionName=test Nodes=$node Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF="$folder/slurm.conf"

start slurmdbd env SLURM_CONF="$folder/slurmdbd.conf" slurmdbd -D
answers slurmdbd sacctmgr --immediate add cluster test
start slurmctld slurmctld -D
start slurmd slurmd -D -N "$node"
answers slurm srun --ntasks 1 --immediate=5 true

"$@"
