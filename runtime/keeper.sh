#!/bin/sh
# PID 1 of the runtime's container in a function pod. It starts the runtime when the sidecar orders it, and
# clears everything away after it, so that one container serves many functions one after another and the
# kubelet never sees a restart. Orders and reports: docs/contracts.md, "Sidecar and keeper".
#
# Function code runs as the same user as this shell, so it must not get at it:
# - As PID 1 of its namespace it takes no signal from within but those that it traps.
# - A binary that its user cannot read (mode 0711) makes the kernel refuse every look into the process: no
#   ptrace, no /proc/1/fd. The image copies the shell for that.
# - The shared volume is mounted read-only here, and the FIFOs in it, which the sidecar makes, are unlinked
#   as soon as both ends are open, before any function code runs.
#
# POSIX sh with `find`, `sleep` and `env`, also as busybox has them. Nothing is forked that need not be: a
# container that is full of processes would refuse it, and this shell would end.

set -fu

fail() {
  echo "keeper: $*" >&2
  exit 1
}

: "${SANFRAN_SHARED:=/run/sanfran}" "${SANFRAN_RUNTIME:=/sanfran/runtime.cjs}" "${SANFRAN_NODE:=node}"
: "${SANFRAN_NODE_FLAGS:=}" "${SANFRAN_HTTP_HOST:=0.0.0.0}" "${SANFRAN_HTTP_PORT:=8083}"
: "${SANFRAN_CGROUP:=/sys/fs/cgroup}"
: "${SANFRAN_SCRATCH:?keeper: names the folders that functions may write to, such as '/tmp /dev/shm /dev/mqueue'; they are emptied}"

[ "$$" -eq 1 ] || fail "is process $$ and not PID 1 of a container; it would kill every process that it can see"
node=$(command -v "$SANFRAN_NODE") || fail "SANFRAN_NODE: there is no $SANFRAN_NODE; try /usr/local/bin/node"
[ -r "$SANFRAN_RUNTIME" ] || fail "SANFRAN_RUNTIME: there is no $SANFRAN_RUNTIME; try /sanfran/runtime.cjs"
[ -d "$SANFRAN_SHARED" ] || fail "SANFRAN_SHARED: there is no folder $SANFRAN_SHARED; mount the shared volume there"
scratch=''
for place in $SANFRAN_SCRATCH; do
  [ ! -d "$place" ] || scratch="$scratch $place" # /dev/mqueue is not everywhere
done
[ -n "$scratch" ] || fail "SANFRAN_SCRATCH: none of $SANFRAN_SCRATCH is a folder; mount a volume at /tmp"
home=${scratch# }
home=${home%% *}
if (: >"$SANFRAN_SHARED/.writable") 2>/dev/null; then
  rm -f "$SANFRAN_SHARED/.writable"
  fail "SANFRAN_SHARED: $SANFRAN_SHARED can be written to here; mount it with readOnly: true"
fi
if (: <"/proc/$$/environ") 2>/dev/null; then
  echo "keeper: function code may look into this shell; run a copy of it with mode 0711" >&2
fi

signalled='' stopping=''
trap 'signalled=1 stopping=1' TERM INT

# Kills everything but this shell. One call reaches all: the kernel lets nobody fork meanwhile. Those
# that died count until they have been waited for, orphans among them.
kill_everything() {
  kill -KILL -1 2>/dev/null
  wait
  while kill -KILL -1 2>/dev/null; do sleep 0.005; done
}

# Whether System V shared memory, semaphores or queues are left, which outlive their processes.
ipc_is_left() {
  for kind in shm sem msg; do
    [ -r "/proc/sysvipc/$kind" ] || continue
    { read -r _ && read -r _; } <"/proc/sysvipc/$kind" && return 0
  done
  return 1
}

# Into $standing: this shell's limits, niceness and scheduling policy. Function code may change them, as it is the same
# user, and what runs next would inherit them.
look_at_oneself() {
  standing=''
  while read -r line; do standing="$standing$line;"; done <"/proc/$$/limits"
  read -r line <"/proc/$$/stat"
  set -- ${line##*) }
  standing="$standing nice ${17} policy ${39}"
}

# After it nothing is left of what ran. A container that cannot be cleared is given up.
clear_away() {
  kill_everything
  look_at_oneself
  [ "$standing" = "$stood" ] || fail "a function has changed the limits or the priority of this shell"
  # A folder without permissions would keep what is in it.
  find $scratch -xdev -mindepth 1 -type d ! -perm -700 -exec chmod u+rwx {} \; 2>/dev/null
  find $scratch -xdev -mindepth 1 -delete || fail "what a function wrote could not be removed"
  if ipc_is_left; then
    ipcrm --all=shm --all=sem --all=msg || fail "what a function left in System V IPC could not be removed"
  fi
}

# start <run>: the runtime, in the background. Only its end is reported, by a shell that may die with it.
start() {
  (
    exec 3<&-
    cd "$home" || exit
    env -i PATH="${node%/*}:/usr/local/bin:/usr/bin:/bin" HOME="$home" TMPDIR="$home" LANG=C.UTF-8 \
      SANFRAN_CONTROL="$SANFRAN_SHARED/run/$1/control" \
      SANFRAN_HTTP_HOST="$SANFRAN_HTTP_HOST" SANFRAN_HTTP_PORT="$SANFRAN_HTTP_PORT" \
      "$node" $SANFRAN_NODE_FLAGS "$SANFRAN_RUNTIME" </dev/null >&5 2>&6 4>&- 5>&- 6>&-
    echo "exit $1 $?" >&4
  ) &
}

# memory <question>: bytes that no file on disk backs, of all processes and of what they keep in memory-backed folders.
memory() {
  bytes=0 stat=$SANFRAN_CGROUP/memory.stat
  [ -r "$stat" ] || stat=$SANFRAN_CGROUP/memory/memory.stat # version 1
  if [ -r "$stat" ]; then
    while read -r key value; do
      case $key in anon | shmem | total_rss | total_shmem) bytes=$((bytes + value)) ;; esac
    done <"$stat"
  fi
  echo "memory $1 $bytes" >&4
}

# Opens the FIFOs that the sidecar has made; false when it went away meanwhile.
meet() {
  until [ -p "$SANFRAN_SHARED/meet/orders" ]; do
    [ -z "$stopping" ] || exit 0
    sleep 0.05
  done
  at=$SANFRAN_SHARED/meet
  command exec 3<"$at/orders" 4>"$at/reports" 5>"$at/stdout" 6>"$at/stderr"
}

# Reads an order into $order and $about; false when the sidecar is gone. A signal interrupts the reading.
next_order() {
  until read -r order about <&3; do
    [ -n "$signalled" ] || return 1
    signalled=''
  done
}

look_at_oneself
stood=$standing
echo "keeper: waits for the sidecar"
while :; do
  clear_away
  meet || continue
  while next_order; do
    case $order in
      start)
        echo "keeper: a runtime starts"
        start "$about"
        ;;
      memory) memory "$about" ;;
      hello) echo "hello $about" >&4 ;;
      end)
        clear_away
        echo "keeper: everything that ran was cleared away"
        echo "ended $about" >&4
        ;;
    esac
  done
  exec 3<&- 4>&- 5>&- 6>&-
  [ -z "$stopping" ] || break
  echo "keeper: the sidecar is gone; waits for the next"
done
clear_away
