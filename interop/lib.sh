# shellcheck shell=bash disable=SC2034
# Shared by the scripts of this folder. Sourced, never run.

INTEROP=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$INTEROP")
BIN=${INTEROP_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/interop/bin}
export PATH="$BIN:$PATH"
# shellcheck source=versions
source "$INTEROP/versions"

say() { printf 'interop: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# unavailable REASON: ends a script that this machine cannot run, as a failure in CI and as a skip
# elsewhere.
unavailable() {
  if [[ ${CI:-} == true ]]; then
    die "$* (CI=true: this is a failure)"
  fi
  say "skipped: $*"
  exit 0
}

# build_stellaops: sets STELLAOPS to a release build, unless it names a program already.
build_stellaops() {
  if [[ -z ${STELLAOPS:-} ]]; then
    say "cargo build --release -p stellaops"
    cargo build --release --locked --manifest-path "$ROOT/Cargo.toml" -p stellaops
    STELLAOPS=${CARGO_TARGET_DIR:-$ROOT/target}/release/stellaops
  fi
  STELLAOPS=$(realpath "$STELLAOPS")
  [[ -x $STELLAOPS ]] || die "no such program: $STELLAOPS"
}

# --- checks -----------------------------------------------------------------------------------------------------------

FAILURES=0
CHECKS=0

# Whether the last check passed, for callers that depend on it.
PASSED=true

# check WHAT COMMAND...: COMMAND must exit 0.
check() { check_exit 0 "$@"; }

# check_exit CODES WHAT COMMAND...: COMMAND must exit with one of CODES ("3|4"). What it printed is
# shown when it does not.
check_exit() {
  local codes=$1 what=$2 output="$WORK/check.out" code
  shift 2
  CHECKS=$((CHECKS + 1))
  # Not as a condition, because `set -e` has no effect inside one.
  set +e
  (set -e; "$@") >"$output" 2>&1
  code=$?
  set -e
  if [[ "|$codes|" == *"|$code|"* ]]; then
    PASSED=true
    printf '  ok      %s\n' "$what"
  else
    PASSED=false
    FAILURES=$((FAILURES + 1))
    printf '  FAILED  %s (exit %s, expected %s)\n' "$what" "$code" "${codes//|/ or }"
    printf '          $ %s\n' "$*"
    tail -n 25 "$output" | sed 's/^/          | /'
  fi
}

# same EXPECTED FOUND: two files or pipes hold the same lines, at least one: a pipe whose command
# failed is empty too.
same() {
  local expected found
  expected=$(cat "$1")
  found=$(cat "$2")
  [[ -n $expected ]] || { echo "nothing to compare with"; return 1; }
  diff -u --label expected --label found <(printf '%s\n' "$expected") <(printf '%s\n' "$found")
}

# --- registries -------------------------------------------------------------------------------------------------------

SERVERS=()

# start_registry KIND NAME: starts an empty registry on a free loopback port and sets REGISTRY to
# its host:port and REGISTRY_PID to its process.
#
#   docker    Debian's docker-registry 2.8: no referrers API
#   cuelabs   referrers API, OCI-Subject
#   ggcr      referrers API, no OCI-Subject
#   olareg    referrers API, OCI-Subject; only where the command is installed
start_registry() {
  local kind=$1 folder="$WORK/registry/$2" log port
  log=$folder/log
  mkdir -p "$folder"
  # Created here, because it may be read before the program that writes it has started.
  : >"$log"
  case $kind in
    docker)
      printf 'version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: "%s"}}\nhttp: {addr: "127.0.0.1:0"}\n' \
        "$folder/data" >"$folder/config.yml"
      # REGISTRY_* in its environment overrides its configuration, and skopeo's REGISTRY_AUTH_FILE
      # matches that.
      env -u REGISTRY_AUTH_FILE docker-registry serve "$folder/config.yml" >"$log" 2>&1 &
      ;;
    cuelabs | ggcr)
      native-registry -implementation "$kind" >"$log" 2>&1 &
      ;;
    olareg)
      # It does not print the port that it gets for 0. Outgoing connections use none below 32768.
      port=$((20000 + RANDOM % 10000))
      printf 'listening on 127.0.0.1:%s\n' "$port" >"$log"
      olareg serve --addr 127.0.0.1 --port "$port" --store-type mem >>"$log" 2>&1 &
      ;;
    *) die "unknown kind of registry: $kind" ;;
  esac
  REGISTRY_PID=$!
  SERVERS+=("$REGISTRY_PID")
  for _ in $(seq 100); do
    kill -0 "$REGISTRY_PID" 2>/dev/null || break
    REGISTRY=$(sed -n '/listening on 127/{s/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p;q}' "$log")
    if [[ -n $REGISTRY ]] && curl -fsS -o "$folder/answer" "http://$REGISTRY/v2/" 2>"$folder/error"; then
      regctl registry set --tls=disabled --skip-check "$REGISTRY"
      return
    fi
    sleep 0.1
  done
  tail -n 20 "$log" >&2
  die "the $kind registry did not start"
}

# make_identity FOLDER: creates cert.pem and key.pem for 127.0.0.1, and a file "users" with the user
# "interop" and the password "secret".
make_identity() {
  mkdir -p "$1"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1/key.pem" -out "$1/cert.pem" -days 2 \
    -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 2>"$1/log" || { cat "$1/log" >&2; die "openssl cannot create a certificate"; }
  # As `htpasswd -nbBC 5 interop secret` prints it.
  # shellcheck disable=SC2016
  printf '%s\n' 'interop:$2y$05$xbZChBBmWElCq7EBPDb9CuVcaZg9w3oD7k7lpdz6gJS4KcN1DmZRO' >"$1/users"
}

# serve_store LOG OPTION...: starts `stellaops store serve` on a free loopback port and sets
# REGISTRY and REGISTRY_PID.
serve_store() {
  local log=$1
  shift
  : >"$log"
  "$STELLAOPS" store serve --listen 127.0.0.1:0 "$@" >>"$log" 2>&1 &
  REGISTRY_PID=$!
  SERVERS+=("$REGISTRY_PID")
  for _ in $(seq 100); do
    REGISTRY=$(sed -n 's!.* at https\{0,1\}://\([^/]*\)/v2/.*!\1!p' "$log")
    [[ -z $REGISTRY ]] || return 0
    kill -0 "$REGISTRY_PID" 2>/dev/null || break
    sleep 0.1
  done
  cat "$log" >&2
  die "the store is not served"
}

stop_registry() {
  kill "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

stop_all() {
  local pid
  for pid in "${SERVERS[@]}"; do
    stop_registry "$pid"
  done
}
