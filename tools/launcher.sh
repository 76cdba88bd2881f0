#!/bin/sh
# quern @version@ for @system@. What follows this script is a gzipped tar of the program and of Deno,
# which runs it: the first start unpacks both into the cache, later ones go straight to the last line.
fail() {
  echo "error: $1" >&2
  exit 1
}
case ${XDG_CACHE_HOME-} in
  /*) cache=$XDG_CACHE_HOME/quern ;;
  *)
    [ -n "${HOME-}" ] || fail "neither HOME nor XDG_CACHE_HOME says where quern may unpack itself"
    cache=$HOME/.cache/quern
    ;;
esac
place=$cache/@version@-@hash@
if [ ! -x "$place/deno" ]; then
  missing=
  for program in uname mkdir mktemp tail gzip tar mv rm; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
  done
  [ -z "$missing" ] || fail "quern needs programs to unpack itself that are not on the PATH:$missing"
  [ "$(uname -sm)" = "@system@" ] || fail "this quern is for @system@, not $(uname -sm)"
  { mkdir -p "$cache" && new=$(mktemp -d "$cache/new-XXXXXX"); } 2>/dev/null ||
    fail "cannot write to $cache: set XDG_CACHE_HOME to a folder for quern's 100 MB"
  trap 'rm -rf "$new"' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  # The pipe's status is tar's alone, so a word from gzip counts as well.
  said=$({ tail -c +@start@ "$0" | LC_ALL=C gzip -dc | LC_ALL=C tar -xmof - -C "$new"; } 2>&1)
  status=$?
  case $said in
    *"gzip: stdin"*) fail "$0 is damaged or not whole: get it again" ;;
  esac
  [ "$status$said" = 0 ] || fail "cannot unpack 100 MB into $cache: ${said%%
*}"
  # Several first starts may come here: a rename never lands on a full folder, so one of them wins.
  mv -T "$new" "$place" 2>/dev/null || [ -x "$place/deno" ] ||
    fail "$place cannot be run or is not whole: remove it, or set XDG_CACHE_HOME to another folder"
  rm -rf "$new"
  trap - EXIT HUP INT TERM
fi
if [ "$#${1-}" = 1clean ]; then # other versions, and what a killed first start left
  count=0
  for other in "$cache"/[0-9]*-???????????????? "$cache"/new-??????; do
    [ -d "$other" ] && [ "$other" != "$place" ] || continue
    rm -rf "$other" || fail "cannot remove $other"
    echo "removed $other"
    count=$((count + 1))
  done
  [ "$count" != 0 ] || echo "nothing to remove: $cache has no other version"
  exit 0
fi
export DENO_DIR="$place/cache" DENO_NO_UPDATE_CHECK=1
exec "$place/deno" run --cached-only --no-config --no-lock --no-prompt -A "$place/app/main.js" "$@"
