# shellcheck shell=bash
# The graph that the run mirrors, pushed and read back only with tools of other projects. Sourced,
# never run.
#
# A two-platform index, and on it an SBOM, an attestation, a signature, a signature on the SBOM (a
# referrer of a referrer), an SBOM on each platform's manifest, and three tags of the kind that
# cosign wrote before the referrers API (no subject).

# A fixed time. With the current time, which is the default of oras, the graph would have new
# digests at every push.
CREATED=org.opencontainers.image.created=2026-01-01T00:00:00Z

# prepare_files FOLDER: writes the payloads. Each document is different, so that no two referrers
# share a digest.
prepare_files() {
  local name
  mkdir -p "$1/rootfs"
  # Large enough for many stored blocks in the bundle.
  seq 1 400000 >"$1/rootfs/data"
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$1/layer.tar" -C "$1/rootfs" data
  seq 1 1000 >"$1/rootfs/more"
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$1/more.tar" -C "$1/rootfs" more
  for name in index-sbom amd64-sbom arm64-sbom; do
    printf '{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":{"component":{"name":"%s"}}}\n' "$name" >"$1/$name.json"
  done
  printf '{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1"}\n' >"$1/attestation.json"
  printf '{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","of":"index"}\n' >"$1/index-signature.json"
  printf '{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","of":"sbom"}\n' >"$1/sbom-signature.json"
  for name in sig att sbom; do
    printf '{"critical":{"type":"legacy %s"}}\n' "$name" >"$1/legacy-$name.json"
    printf '{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]},"config":{"of":"%s"}}\n' "$name" >"$1/legacy-$name-config.json"
  done
}

SIGSTORE=application/vnd.dev.sigstore.bundle.v0.3+json
CYCLONEDX=application/vnd.cyclonedx+json
IN_TOTO=application/vnd.in-toto+json

# push_graph HOST FILES OUT: pushes the graph to HOST/app:1.0, one object after another (olareg
# loses referrers that are pushed concurrently), and writes what a mirror must find:
#
#   OUT/pushed       one line for each referrer: digest, depth, artifactType
#   OUT/legacy-tags  tag, digest
#   OUT/images       digest of the index and of each platform's manifest
#   OUT/index-sbom   digest of the SBOM on the index
push_graph() {
  local host=$1 files=$2 out=$3 platform index sbom digest suffix
  mkdir -p "$out"
  : >"$out/pushed.unsorted"
  : >"$out/legacy-tags"
  for platform in amd64 arm64; do
    crane append --oci-empty-base --new_layer "$files/layer.tar" --new_tag "$host/app:$platform"
    crane mutate "$host/app:$platform" --set-platform "linux/$platform" --tag "$host/app:$platform"
  done
  crane index append -m "$host/app:amd64" -m "$host/app:arm64" -t "$host/app:1.0"
  index=$(crane digest "$host/app:1.0")
  printf '%s\n' "$index" "$(crane digest "$host/app:amd64")" "$(crane digest "$host/app:arm64")" >"$out/images"

  sbom=$(attach "$host/app@$index" "$CYCLONEDX" "$files/index-sbom.json")
  printf '%s\n' "$sbom" >"$out/index-sbom"
  printf '%s 1 %s\n' "$sbom" "$CYCLONEDX" >>"$out/pushed.unsorted"
  digest=$(attach "$host/app@$index" "$IN_TOTO" "$files/attestation.json")
  printf '%s 1 %s\n' "$digest" "$IN_TOTO" >>"$out/pushed.unsorted"
  digest=$(attach "$host/app@$index" "$SIGSTORE" "$files/index-signature.json")
  printf '%s 1 %s\n' "$digest" "$SIGSTORE" >>"$out/pushed.unsorted"
  digest=$(attach "$host/app@$sbom" "$SIGSTORE" "$files/sbom-signature.json")
  printf '%s 2 %s\n' "$digest" "$SIGSTORE" >>"$out/pushed.unsorted"
  # Two pushers, because oras and regctl maintain the referrers tag differently.
  digest=$(attach "$host/app@$(sed -n 2p "$out/images")" "$CYCLONEDX" "$files/amd64-sbom.json")
  printf '%s 1 %s\n' "$digest" "$CYCLONEDX" >>"$out/pushed.unsorted"
  digest=$(regctl artifact put --subject "$host/app@$(sed -n 3p "$out/images")" --artifact-type "$CYCLONEDX" \
    --file "$files/arm64-sbom.json" --file-media-type "$CYCLONEDX" --format '{{.Manifest.GetDescriptor.Digest}}')
  printf '%s 1 %s\n' "$digest" "$CYCLONEDX" >>"$out/pushed.unsorted"

  for suffix in sig att sbom; do
    push_legacy_tag "$host/app:${index/:/-}.$suffix" "$suffix" "$files"
    digest=$(crane digest "$host/app:${index/:/-}.$suffix")
    printf '%s %s\n' "${index/:/-}.$suffix" "$digest" >>"$out/legacy-tags"
    printf '%s 1 %s\n' "$digest" application/vnd.oci.image.config.v1+json >>"$out/pushed.unsorted"
  done
  sort "$out/pushed.unsorted" >"$out/pushed"
  rm "$out/pushed.unsorted"
}

# push_change HOST FILES OUT: pushes what a later export finds: HOST/app:1.1, one of the graph's
# platforms with another layer and an SBOM, and the same image as HOST/other:1.1, where the graph
# has nothing.
#
#   OUT/changed      the digests of the image, its SBOM, the layer that is in the graph, and the new layer
push_change() {
  local host=$1 files=$2 image
  crane append --base "$host/app:amd64" --new_layer "$files/more.tar" --new_tag "$host/app:1.1"
  crane copy "$host/app:1.1" "$host/other:1.1"
  image=$(crane digest "$host/app:1.1")
  printf '%s\n' "$image" "$(attach "$host/app@$image" "$CYCLONEDX" "$files/amd64-sbom.json")" >"$3/changed"
  crane manifest "$host/app:1.1" | jq -r '.layers[].digest' >>"$3/changed"
}

# attach SUBJECT ARTIFACT_TYPE FILE: pushes a referrer and prints its digest.
attach() {
  # From the folder of the file, because oras writes the path that it is given into the manifest.
  (cd "$(dirname "$3")" &&
    oras attach --plain-http --annotation "$CREATED" --artifact-type "$2" --format json "$1" "$(basename "$3"):$2") | jq -r .digest
}

# push_legacy_tag REFERENCE SUFFIX FILES
push_legacy_tag() {
  local type
  case $2 in
    sig) type=application/vnd.dev.cosign.simplesigning.v1+json ;;
    att) type=application/vnd.dsse.envelope.v1+json ;;
    sbom) type=text/spdx+json ;;
  esac
  (cd "$3" && oras push --plain-http --annotation "$CREATED" \
    --config "legacy-$2-config.json:application/vnd.oci.image.config.v1+json" "$1" "legacy-$2.json:$type")
}

# graph_by_others HOST OUT: prints, sorted, the digest of every referrer of OUT/pushed's graph that
# oras finds at HOST (oras does not follow an index to its platforms, so each is asked for) and of
# every legacy tag that crane finds there.
graph_by_others() {
  local host=$1 out=$2 image tag
  {
    while read -r image; do
      oras discover --plain-http --format json "$host/app@$image" | referrers_by_oras
    done <"$out/images"
    while read -r tag _; do
      crane digest "$host/app:$tag" || true
    done <"$out/legacy-tags"
  } | sort -u
}

# referrers_by_oras: reads what `oras discover --format json` prints, and prints the digests of
# every depth.
referrers_by_oras() { jq -r '.referrers[]? | recurse(.referrers[]?) | .digest'; }
