# shellcheck shell=bash
# The part of the run that copies the graph without a bundle: from registries and a layout folder to
# registries and a layout folder. Sourced, never run.

# Registries of both kinds, without and with the referrers API, and a folder. The bundle matrix has
# the others.
COPY_SOURCES=(docker ggcr store folder)
COPY_TARGETS=(docker cuelabs store folder)

# What `mirror copy` is given for each source.
declare -A COPY_REFERENCE

# start_copy_end KIND NAME: starts an empty registry and sets REGISTRY and REGISTRY_PID; "store" is
# `stellaops store serve`.
start_copy_end() {
  if [[ $1 == store ]]; then
    mkdir -p "$WORK/registry/$2"
    serve_store "$WORK/registry/$2/log" --writable --folder "$WORK/registry/$2/data"
    regctl registry set --tls=disabled --skip-check "$REGISTRY"
  else
    start_registry "$1" "$2"
  fi
}

# prepare_copy_source KIND: has the graph pushed to a registry of this kind, or copied into a folder
# from the registry before.
prepare_copy_source() {
  local kind=$1 out="$WORK/copy-$1" before=$FAILURES
  printf '\n%s: push for mirror copy\n' "$kind"
  if [[ $kind == folder ]]; then
    mkdir -p "$out"
    cp "$WORK/copy-docker/"{pushed,images,legacy-tags,index-sbom} "$out"
    check "mirror copy into a folder" stellaops mirror copy "${COPY_REFERENCE[docker]}" --to "oci:$out/layout"
    COPY_REFERENCE[folder]="oci:$out/layout:1.0"
  else
    start_copy_end "$kind" "copy-source-$kind"
    check "crane, oras and regctl push the graph" push_graph "$REGISTRY" "$WORK/files" "$out"
    COPY_REFERENCE[$kind]="$REGISTRY/app:1.0"
  fi
  COPY_FAILURES[$kind]=$((FAILURES - before))
}

declare -A COPY_FAILURES
COPY_TABLE=()

# copy_across FROM TO: copies the graph into an empty target, compares, loses something there where
# that is possible, copies again, and adds a row to the table.
copy_across() {
  local from=$1 to=$2 source="$WORK/copy-$1" out="$WORK/copied/$1-to-$2" reference=${COPY_REFERENCE[$1]:-} before=$FAILURES
  local target verdict found
  mkdir -p "$out"
  printf '\n%s to %s: mirror copy, compare\n' "$from" "$to"
  if [[ $to == folder ]]; then
    target=oci:$out/layout
  else
    start_copy_end "$to" "copy-$from-to-$to"
    target=$REGISTRY
  fi
  check "mirror copy --dry-run" stellaops mirror copy "$reference" --to "$target" --dry-run
  check_exit 1 "and nothing is there" arrived "$target"
  check "mirror copy" stellaops mirror copy "$reference" --to "$target" --receipt "$out/receipt.json"
  if [[ $to == folder ]]; then
    check "oras finds the referrers in the folder" same <(with_subject "$source") <(layout_by_oras "$out/layout")
    check "skopeo copies the image out of it" \
      skopeo --insecure-policy copy -q --all "oci:$out/layout:1.0" "dir:$out/skopeo"
    layout_by_oras "$out/layout" >"$out/others" || true
  else
    compare "$target" "$to" "$source" "$out"
    if [[ $to == store || $to == cuelabs ]]; then
      check "an SBOM is deleted at the target" delete_manifest "$target" "$(cat "$source/index-sbom")"
    fi
  fi
  check "a second copy" stellaops mirror copy "$reference" --to "$target"
  if [[ $to != folder ]]; then
    check "oras and crane find everything again" others_find_pushed "$target" "$source" "$out/others"
    check "the tags are the same" tags_are_pushed "$target" "$source"
    stop_registry "$REGISTRY_PID"
  fi
  verdict="arrived whole"
  ((FAILURES - before + COPY_FAILURES[$from] == 0)) || verdict="DIFFERS"
  found=$(count "$source" "$out/others")
  COPY_TABLE+=("$from -> $to|$(wc -l <"$source/pushed")|$found|$verdict")
}

# arrived TARGET: the image has its tag at the target.
arrived() {
  case $1 in
    oci:*) [[ -e ${1#oci:}/index.json ]] ;;
    *) ! tag_is_absent "$1" ;;
  esac
}

delete_manifest() { [[ $(curl -s -o /dev/null -w '%{http_code}' -X DELETE "http://$1/v2/app/manifests/$2") == 202 ]]; }

# peers_copy SOURCE OUT: what oras, regctl, crane and skopeo bring of the same graph, for the reader:
# nothing is checked.
peers_copy() {
  local source="$WORK/copy-$1" from=${COPY_REFERENCE[$1]} tool target
  for tool in oras regctl crane skopeo; do
    start_copy_end store "peer-$tool-from-$1"
    target=$REGISTRY
    case $tool in
      oras) oras cp -r --from-plain-http --to-plain-http "$from" "$target/app:1.0" ;;
      regctl) regctl image copy --referrers --digest-tags "$from" "$target/app:1.0" ;;
      crane) crane copy --insecure "$from" "$target/app:1.0" ;;
      skopeo) skopeo --insecure-policy copy -q --all --src-tls-verify=false --dest-tls-verify=false "docker://$from" "docker://$target/app:1.0" ;;
    esac >"$WORK/peer.log" 2>&1 || say "$tool failed: $(tail -n 1 "$WORK/peer.log")"
    graph_by_others "$target" "$source" >"$WORK/peer.found" 2>/dev/null || true
    COPY_TABLE+=("$1 -> store, by $tool|$(wc -l <"$source/pushed")|$(count "$source" "$WORK/peer.found")|(for comparison)")
    stop_registry "$REGISTRY_PID"
  done
}

copy_without_bundles() {
  local from to
  for from in "${COPY_SOURCES[@]}"; do
    prepare_copy_source "$from"
  done
  for from in "${COPY_SOURCES[@]}"; do
    for to in "${COPY_TARGETS[@]}"; do
      copy_across "$from" "$to"
    done
  done
  peers_copy docker
  peers_copy store
}
