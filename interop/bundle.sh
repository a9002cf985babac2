# shellcheck shell=bash disable=SC2034
# What the run does with a bundle: reads it with other programs, and damages it. Sourced, never run.

# referrer_files BUNDLE: prints the digest in the name of every referrer file, sorted. The
# documentation tells operators to type the first two commands.
referrer_files() {
  tar -tzf "$1" | grep "^referrers/" | grep '\.json$' | sed 's!.*/sha256-\([0-9a-f]*\)\.json$!sha256:\1!' | sort
}

# referrer_files_hash BUNDLE: every referrer file hashes to the digest in its name.
referrer_files_hash() {
  local path paths digest
  paths=$(tar -tzf "$1" | grep "^referrers/.*\.json$")
  for path in $paths; do
    digest=$(tar -xzf "$1" -O "$path" | sha256sum | cut -d' ' -f1)
    [[ $path == */sha256-$digest.json ]] || { echo "$path holds sha256:$digest"; return 1; }
  done
}

# counts BUNDLE TOTAL: the summary that `grep -A5 "referrers:"` shows gives this total.
counts() {
  local summary
  summary=$(tar -xzf "$1" -O manifest.yaml | grep -A5 "referrers:")
  echo "$summary"
  grep -q "^ *total: $2$" <<<"$summary"
}

extract_with_both() {
  mkdir -p "$2/tar" "$2/bsdtar"
  tar -xzf "$1" -C "$2/tar"
  bsdtar -xf "$1" -C "$2/bsdtar"
  diff -r "$2/tar" "$2/bsdtar"
}

# layout_by_oras LAYOUT: prints the referrers that oras finds in an OCI layout (a folder or a tar
# file), sorted. In a layout, oras reaches the manifest of a platform only through the index.
layout_by_oras() {
  {
    oras discover --oci-layout --format json "$1:1.0"
    oras discover --oci-layout --format json --platform linux/amd64 "$1:1.0"
    oras discover --oci-layout --format json --platform linux/arm64 "$1:1.0"
  } | referrers_by_oras | sort -u
}

# referrers_of_image DISCOVERED: prints the referrers that name the image itself as their subject,
# sorted.
referrers_of_image() {
  jq -r '.subject.digest as $image | .referrers[] | select(.subject == $image and .tag == null) | .digest' "$1" | sort -u
}

# layout_by_regctl FOLDER: prints the referrers that regctl finds for the image of a layout with
# referrers tags, sorted.
layout_by_regctl() {
  regctl artifact list --format '{{range .Descriptors}}{{println .Digest}}{{end}}' "ocidir://$1:1.0" | grep . | sort -u
}

# image_by_oras REFERENCE: prints the referrers that oras finds for an image in a registry, sorted.
image_by_oras() { oras discover --plain-http --format json "$1" | referrers_by_oras | sort -u; }

# with_subject OUT: prints the pushed referrers that name their subject, so without the manifests of
# legacy tags, sorted.
with_subject() { grep -vwFf <(cut -d' ' -f2 "$1/legacy-tags") "$1/pushed" | cut -d' ' -f1 | sort -u; }

# delta_has_what_changed OUT: besides its manifests, the delta holds the new layer and not the one
# that is in the base, and is less than a tenth of the size of the base.
delta_has_what_changed() {
  local names old new
  names=$(tar -tzf "$1/delta.tgz")
  old=$(sed -n '3s/sha256://p' "$1/changed")
  new=$(sed -n '4s/sha256://p' "$1/changed")
  grep "^blobs/sha256/$new$" <<<"$names"
  if grep "^blobs/sha256/$old$" <<<"$names"; then return 1; fi
  tar -xzf "$1/delta.tgz" -O manifest.yaml | grep -A3 "path: blobs/sha256/$old$" | grep -q 'base: true$'
  ls -l "$1/delta.tgz" "$1/bundle.tgz"
  (($(stat -c %s "$1/delta.tgz") * 10 < $(stat -c %s "$1/bundle.tgz")))
}

# make_keys FOLDER: creates the key that signs bundles with openssl and, where cosign is installed,
# a key of its own. Its signing configuration names no service, so that it contacts none.
make_keys() {
  mkdir -p "$1"
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1/key.pem"
  openssl pkey -in "$1/key.pem" -pubout -out "$1/key.pub"
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | openssl pkey -pubout -out "$1/other.pub"
  have cosign || return 0
  COSIGN_PASSWORD='' cosign generate-key-pair --output-key-prefix "$1/cosign"
  cosign signing-config create --out "$1/no-services.json"
}

# check_by_lines TOOL BUNDLE KEY: extracts the bundle and runs the lines that `bundle inspect`
# prints for this tool.
check_by_lines() {
  local lines folder
  folder=$(mktemp -d -p "$WORK")
  lines=$(stellaops bundle inspect --file "$2" --format json | jq -er --arg tool "$1" '.signature | (.extract + .[$tool])[]')
  lines=${lines//KEY.pub/$3}
  echo "$lines"
  (cd "$folder" && bash -euo pipefail -c "$lines")
}

# no_check_by_lines TOOL BUNDLE KEY: the same lines fail with a key that did not sign.
no_check_by_lines() { if check_by_lines "$@"; then return 1; fi; }

# sign_by_cosign BUNDLE FOLDER: cosign signs what `bundle manifest` prints, and its signature is
# accepted beside the bundle.
sign_by_cosign() {
  stellaops bundle manifest --file "$1" >"$2/manifest.yaml"
  COSIGN_PASSWORD='' cosign sign-blob --key "$2/cosign.key" --signing-config "$2/no-services.json" \
    --bundle "$2/cosign.json" "$2/manifest.yaml"
  stellaops bundle validate --file "$1" --key "$2/cosign.pub" --signature "$2/cosign.json"
}

# flip_bit FILE OFFSET
flip_bit() {
  local byte
  byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
  # shellcheck disable=SC2059
  printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# damage BUNDLE OUT: makes four damaged copies. Nothing in a bundle is deflated, so a text can be
# found in the file.
damage() {
  local sbom header offset
  sbom=$(cat "$2/index-sbom")
  mkdir -p "$2/damaged"

  # The name of a referrer's file appears in manifest.yaml first and then in its tar header, which
  # its content follows.
  header=$(grep -abo "sha256-${sbom#sha256:}.json" "$1" | tail -n 1 | cut -d: -f1)
  offset=$(grep -abo '"index-sbom.json"' "$1" | cut -d: -f1 | awk -v after="$header" '$1 > after && !found {print; found = 1}')
  cp "$1" "$2/damaged/referrer.tgz"
  flip_bit "$2/damaged/referrer.tgz" "$offset"

  offset=$(grep -abo '"name":"index-sbom"' "$1" | awk -F: 'NR == 1 {print $1}')
  cp "$1" "$2/damaged/payload.tgz"
  flip_bit "$2/damaged/payload.tgz" "$offset"

  # The CRC of the gzip trailer, so that every entry is intact.
  cp "$1" "$2/damaged/trailer.tgz"
  flip_bit "$2/damaged/trailer.tgz" $(($(stat -c %s "$1") - 8))

  head -c $(($(stat -c %s "$1") / 2)) "$1" >"$2/damaged/truncated.tgz"
}

# The damaged copies, in words, and the exit codes of validate and import for each. A changed entry
# is 4. Where no entry explains the damage, the container is malformed (3). A reader that stops in
# the middle of an entry may report either.
DAMAGES=(referrer payload trailer truncated)
declare -A DAMAGE_WORDS=(
  [referrer]="one bit of a referrer's manifest"
  [payload]="one bit of an SBOM"
  [trailer]="one bit of the gzip trailer"
  [truncated]="half of the file"
)
declare -A DAMAGE_EXIT=([referrer]=4 [payload]=4 [trailer]="3|4" [truncated]="3|4")
