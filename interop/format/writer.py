#!/usr/bin/env python3
"""A second writer of mirror bundles, written from docs/bundle-format.md alone, that checks the test vectors.

    writer.py VECTOR...          writes each vector from its input.json and compares every byte that is documented
    writer.py --out FOLDER ...   also leaves the bundles there
    writer.py --again BUNDLE...  writes each complete, unsigned bundle again from its manifest and files, and compares

Uses only the standard library, and nothing of the Rust crates. Exits with 1 on any difference.
"""

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import pathlib
import re
import sys
import tarfile

IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
ARTIFACT_MANIFEST = "application/vnd.oci.artifact.manifest.v1+json"
MANIFESTS = {IMAGE_MANIFEST, IMAGE_INDEX, DOCKER_MANIFEST, DOCKER_LIST, ARTIFACT_MANIFEST}
INDEXES = {IMAGE_INDEX, DOCKER_LIST}
NAME, REF_NAME = "io.containerd.image.name", "org.opencontainers.image.ref.name"
SOURCES = ["referrers-api", "referrers-tag", "legacy-tag", "manifest"]


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def encoded(digest):
    return digest.split(":")[1]


# --- manifests ---------------------------------------------------------------------------------------------------------


class Manifest:
    """The members of a manifest that are read. An optional one may be missing, null or empty."""

    def __init__(self, data):
        value = json.loads(data)
        self.size = len(data)
        self.digest = sha256(data)
        config = value.get("config") or None
        self.media_type = value.get("mediaType") or (IMAGE_MANIFEST if config else IMAGE_INDEX)
        self.artifact_type = value.get("artifactType") or None
        if self.media_type in (IMAGE_MANIFEST, DOCKER_MANIFEST) and self.artifact_type is None:
            self.artifact_type = config.get("mediaType") or None
        self.annotations = {key: text or "" for key, text in (value.get("annotations") or {}).items()}
        listed = value.get("manifests") or []
        self.children = [one["digest"] for one in listed if one.get("mediaType") in MANIFESTS]


# --- manifest.yaml -----------------------------------------------------------------------------------------------------

RESERVED = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def is_plain(text):
    if not re.fullmatch(r"[A-Za-z0-9._/+@:-]+", text) or text.endswith(":"):
        return False
    if text.lower() in RESERVED or "referrers:" in text:
        return False
    if re.match("[A-Za-z]", text):
        return True
    is_hex = re.fullmatch("[0-9a-f]{64}", text) and not re.fullmatch("[0-9]*(e[0-9]*)?", text)
    return text[0].isdigit() and ("/" in text or bool(is_hex))


def scalar(text):
    if is_plain(text):
        return text

    def escape(char):
        code = ord(char)
        if char in '"\\':
            return "\\" + char
        if 0x20 <= code <= 0x7E:
            return char
        return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"

    return '"' + "".join(map(escape, text)).replace("referrers:", "referrers\\x3a") + '"'


class Yaml:
    def __init__(self):
        self.lines = []

    def plain(self, key, value):
        self.lines.append(f"{key} {value}")

    def text(self, key, value):
        self.plain(key, scalar(value))

    def list(self, key, items, empty="[]"):
        self.lines.append(key if items else f"{key} {empty}")
        return items

    def bytes(self):
        return "".join(line + "\n" for line in self.lines).encode("ascii")


def by_source(source):
    return (SOURCES.index(source), "") if source in SOURCES else (len(SOURCES), source)


def category(artifact):
    def of(text):
        for name, words in (
            ("vex", "vex csaf"),
            ("sbom", "cyclonedx spdx syft sbom"),
            ("attestation", "in-toto attestation slsa provenance dsse"),
            ("signature", "signature cosign sigstore notary simplesigning .sig"),
        ):
            if any(word in text for word in words.split()):
                return name
        return "other"

    if artifact["sources"] == ["legacy-tag"]:
        suffix = artifact["tag"].split(".", 1)[1]
        return {"sig": "signature", "att": "attestation"}.get(suffix) or of(lower(suffix))
    return of(lower(artifact["manifest"].artifact_type or ""))


def lower(text):
    """Of ASCII letters only."""
    return text.translate({upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)})


def discovery_order(record):
    return record["repository"].encode(), record["subject"].encode()


def missing_order(missing):
    digest, source = missing.get("digest"), missing.get("source")
    return missing["code"], digest is not None, digest or "", source is not None, source or ""


def artifact_order(artifact):
    return artifact["digest"], artifact["tag"] is not None, artifact["tag"] or ""


def referrer_path(subject, digest):
    return f"referrers/sha256-{encoded(subject)}/sha256-{encoded(digest)}.json"


def repository_of(reference):
    name = reference.split("@")[0]
    head, _, last = name.rpartition("/")
    return f"{head}/{last.split(':')[0]}"


class Bundle:
    def __init__(self, given, base_yaml=None):
        self.given = given
        self.blobs = {}
        for blob in given["blobs"]:
            data = blob["text"] * blob["times"] if isinstance(blob, dict) else blob
            data = data.encode() if isinstance(data, str) else data
            self.blobs[sha256(data)] = data
        self.images = sorted(given["images"], key=lambda image: image["reference"].encode())
        self.discovery = sorted((self.record(record) for record in given["discovery"]), key=discovery_order)
        self.index = self.layout_index()
        self.base = base_yaml
        self.entries = self.list_entries()
        self.yaml = self.manifest_yaml()
        self.signature = sign(given["key"], self.yaml) if "key" in given else None

    def manifest(self, digest):
        return Manifest(self.blobs[digest])

    def record(self, record):
        artifacts = []
        for artifact in record.get("artifacts", []):
            artifact = {"tag": None, **artifact, "manifest": self.manifest(artifact["digest"])}
            artifact["sources"] = sorted(artifact["sources"], key=by_source)
            artifacts.append(artifact)
        artifacts.sort(key=artifact_order)
        return {**record, "missing": sorted(record.get("missing", []), key=missing_order), "artifacts": artifacts}

    # index.json

    def layout_index(self):
        repositories = {repository_of(image["reference"]) for image in self.images}
        descriptors, listed = [], set()
        for image in self.images:
            name = image["reference"]
            tag = name.split("@")[0][len(repository_of(name)) + 1 :]
            annotations = {NAME: name.split("@")[0] if tag else name}
            if tag:
                annotations[REF_NAME] = tag if len(repositories) == 1 else annotations[NAME]
            own = self.manifest(image["digest"])
            descriptors.append(descriptor(own.media_type, own.digest, own.size, annotations))
            listed.add(own.digest)
        taken = {one["annotations"].get(REF_NAME) for one in descriptors}
        for record in self.discovery:
            for artifact in record["artifacts"]:
                own = artifact["manifest"]
                if own.digest not in listed:
                    listed.add(own.digest)
                    descriptors.append(descriptor(own.media_type, own.digest, own.size, {}, own.artifact_type))
        if self.given.get("layout_tags"):
            descriptors += self.referrers_tags(taken)
        return index_bytes(descriptors)

    def referrers_tags(self, taken):
        subjects = {}
        for record in self.discovery:
            for artifact in record["artifacts"]:
                if artifact["sources"] != ["legacy-tag"]:
                    subjects.setdefault(record["subject"], {})[artifact["digest"]] = artifact["manifest"]
        for subject, referrers in subjects.items():
            tag = subject.replace(":", "-")
            if tag in taken:
                continue
            own = [
                descriptor(one.media_type, one.digest, one.size, one.annotations, one.artifact_type)
                for _, one in sorted(referrers.items())
            ]
            data = index_bytes(own)
            self.blobs[sha256(data)] = data
            yield descriptor(IMAGE_INDEX, sha256(data), len(data), {REF_NAME: tag})

    # manifest.yaml

    def all_manifests(self):
        """Images, referrers, carried subjects, and what the indexes among them list."""
        queue = [image["digest"] for image in self.images]
        for record in self.discovery:
            queue += [record["subject"], *(artifact["digest"] for artifact in record["artifacts"])]
        if self.given.get("layout_tags"):
            queue += [one["digest"] for one in json.loads(self.index)["manifests"]]
        seen = set()
        while queue:
            digest = queue.pop()
            if digest in self.blobs and digest not in seen:
                seen.add(digest)
                queue += self.manifest(digest).children
        return seen

    def list_entries(self):
        files = {"index.json": self.index, "oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        for name, data in self.given.get("trust", {}).items():
            files[f"trust/{name}"] = data.encode() if isinstance(data, str) else data
        files |= {f"blobs/sha256/{encoded(digest)}": data for digest, data in self.blobs.items()}
        held = set()
        if self.base:
            found = re.findall(r"^- path: (blobs/\S+)\n  size: (\d+)$", self.base.decode(), re.M)
            keep = {f"blobs/sha256/{encoded(digest)}" for digest in self.all_manifests() | {sha256(b"{}")}}
            held = {path for path, size in found if path in files and int(size) == len(files[path])} - keep
        return [(path, files[path], path in held) for path in sorted(files)]

    def is_bare(self, image):
        repository = repository_of(image["reference"])
        records = [record for record in self.discovery if record["repository"] == repository]
        referred = {record["subject"] for record in records if record["artifacts"]}
        queue, seen = [image["digest"]], set()
        while queue:
            digest = queue.pop()
            if digest in referred:
                return False
            if digest in self.blobs and digest not in seen:
                seen.add(digest)
                queue += self.manifest(digest).children
        return True

    def manifest_yaml(self):
        given, out = self.given, Yaml()
        artifacts = [(record, artifact) for record in self.discovery for artifact in record["artifacts"]]
        categories = {}
        for _, artifact in artifacts:
            categories.setdefault(category(artifact), set()).add(artifact["digest"])
        incomplete = given.get("incomplete") or any(record["status"] == "incomplete" for record in self.discovery)
        out.plain("format:", "stellaops-mirror-bundle/v1")
        out.text("stream:", given["stream"])
        out.plain("sequence:", given["sequence"])
        if "created" in given:
            out.plain("created:", f'"{given["created"]}"')
        if self.base:
            out.plain("base:", sha256(self.base))
        out.lines.append("referrers:")
        out.plain("  total:", len({artifact["digest"] for _, artifact in artifacts}))
        out.plain("  subjects:", len({record["subject"] for record, _ in artifacts}))
        out.plain("  bare_images:", sum(map(self.is_bare, self.images)))
        out.plain("  status:", "incomplete" if incomplete else "complete")
        for name, digests in sorted(out.list("  by_category:", categories, "{}").items()):
            out.plain(f"    {name}:", len(digests))
        for image in out.list("images:", self.images):
            own = self.manifest(image["digest"])
            out.text("- reference:", image["reference"])
            out.plain("  digest:", own.digest)
            out.text("  media_type:", own.media_type)
            out.plain("  size:", own.size)
            for digest, reason in sorted(out.list("  omitted:", image.get("omitted", {})).items()):
                out.plain("  - digest:", digest)
                out.text("    reason:", reason)
        for record in out.list("discovery:", self.discovery):
            out.text("- repository:", record["repository"])
            for key in ("subject", "capability", "method", "status"):
                out.plain(f"  {key}:", record[key])
            for missing in out.list("  missing:", record["missing"]):
                out.text("  - code:", missing["code"])
                if "digest" in missing:
                    out.plain("    digest:", missing["digest"])
                if "source" in missing:
                    out.text("    source:", missing["source"])
            for artifact in out.list("  artifacts:", record["artifacts"]):
                own = artifact["manifest"]
                out.plain("  - digest:", own.digest)
                if own.artifact_type is not None:
                    out.text("    artifact_type:", own.artifact_type)
                out.text("    media_type:", own.media_type)
                out.plain("    size:", own.size)
                out.plain("    category:", category(artifact))
                for source in out.list("    sources:", artifact["sources"]):
                    out.plain("    -", source)
                if artifact["tag"] is not None:
                    out.text("    tag:", artifact["tag"])
                out.plain("    path:", referrer_path(record["subject"], own.digest))
        for path, data, is_held in out.list("entries:", self.entries):
            out.plain("- path:", path)
            out.plain("  size:", len(data))
            out.text("  sha256:", hashlib.sha256(data).hexdigest())
            if is_held:
                out.plain("  base:", "true")
        return out.bytes()

    # container

    def files(self):
        """Path and content, in the order of the archive."""
        yield "manifest.yaml", self.yaml
        if self.signature:
            yield "manifest.yaml.sigstore.json", self.signature
        found = {path: data for path, data, is_held in self.entries if not is_held}
        for record in self.discovery:
            for artifact in record["artifacts"]:
                digest = artifact["digest"]
                found[referrer_path(record["subject"], digest)] = self.blobs[digest]
        folders = ["oci-layout", "index.json", "referrers", "trust", "blobs"]
        for path in sorted(found, key=lambda path: (folders.index(path.split("/")[0]), path)):
            yield path, found[path]

    def tar_entries(self):
        return [tar_entry(path, data) for path, data in self.files()]

    def tar(self):
        return b"".join(self.tar_entries()) + bytes(1024)

    def tgz(self):
        out = bytearray(bytes.fromhex("1f8b08000000000000ff"))
        for entry in self.tar_entries():
            for at in range(0, len(entry), 65535):
                out += stored(entry[at : at + 65535], False)
        archive = self.tar()
        out += stored(bytes(1024), True)
        out += binascii.crc32(archive).to_bytes(4, "little") + (len(archive) % 2**32).to_bytes(4, "little")
        return bytes(out)


def descriptor(media_type, digest, size, annotations, artifact_type=None):
    value = {"mediaType": media_type, "digest": digest, "size": size}
    if annotations:
        value["annotations"] = dict(sorted(annotations.items(), key=lambda one: one[0].encode()))
    if artifact_type is not None:
        value["artifactType"] = artifact_type
    return value


def index_bytes(descriptors):
    def order(one):
        annotations = one.get("annotations", {})
        name = annotations.get(REF_NAME)
        rest = sorted((key.encode(), value.encode()) for key, value in annotations.items())
        return name is None, (name or "").encode(), one["digest"], rest

    manifests = []
    for one in sorted(descriptors, key=order):
        if one not in manifests:
            manifests.append(one)
    value = {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": manifests}
    # Python escapes what the document lists, and like the document leaves U+007F as it is.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def tar_entry(path, data):
    prefix, _, name = path.rpartition("/") if len(path) > 100 else ("", "", path)
    header = bytearray(512)

    def put(at, value):
        header[at : at + len(value)] = value

    put(0, name.encode())
    put(100, b"0000644\0" + b"0000000\0" * 2)
    put(124, b"%011o\0" % len(data) if len(data) < 2**33 else b"\x80\0\0\0" + len(data).to_bytes(8, "big"))
    put(136, b"00000000000\0")
    put(148, b" " * 8)
    put(156, b"0")
    put(257, b"ustar\x0000")
    put(329, b"0000000\0" * 2)
    put(345, prefix.encode())
    put(148, b"%06o\0 " % sum(header))
    return bytes(header) + data + bytes(-len(data) % 512)


def stored(block, last):
    length = len(block)
    return bytes([last]) + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little") + block


# --- signature: ECDSA over P-256 as RFC 6979 says ----------------------------------------------------------------------

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if a != b:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiply(factor, point):
    result = None
    while factor:
        if factor & 1:
            result = add(result, point)
        point, factor = add(point, point), factor >> 1
    return result


def nonces(secret, digest):
    def mac(key, message):
        return hmac.digest(key, message, "sha256")

    seed = secret.to_bytes(32, "big") + (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
    value, key = b"\1" * 32, bytes(32)
    for byte in (b"\0", b"\1"):
        key = mac(key, value + byte + seed)
        value = mac(key, value)
    while True:
        value = mac(key, value)
        yield int.from_bytes(value, "big")
        key = mac(key, value + b"\0")
        value = mac(key, value)


def der_integer(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return b"\2" + bytes([len(data)]) + data


def sign(pem, message):
    der = base64.b64decode("".join(line for line in pem.splitlines() if not line.startswith("-")))
    at = der.index(bytes.fromhex("0201010420")) + 5
    secret = int.from_bytes(der[at : at + 32], "big")
    digest = hashlib.sha256(message).digest()
    for nonce in nonces(secret, digest):
        if not 0 < nonce < N:
            continue
        r = multiply(nonce, G)[0] % N
        s = pow(nonce, -1, N) * (int.from_bytes(digest, "big") + r * secret) % N
        if r and s:
            break
    body = der_integer(r) + der_integer(s)
    public = SPKI + b"".join(part.to_bytes(32, "big") for part in multiply(secret, G))

    def text(data):
        return base64.b64encode(data).decode()

    return (
        '{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",'
        '"verificationMaterial":{"publicKey":{"hint":"%s"}},'
        '"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"%s"},"signature":"%s"}}'
        % (text(hashlib.sha256(public).digest()), text(digest), text(b"\x30" + bytes([len(body)]) + body))
    ).encode()


# --- a bundle again ----------------------------------------------------------------------------------------------------


def unquoted(text):
    if not text.startswith('"'):
        return text
    escapes = r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|.)"
    return re.sub(escapes, lambda m: m[1] if len(m[1]) == 1 else chr(int(m[1][1:], 16)), text[1:-1])


def given_of(path):
    """What a writer needs to make this bundle. Sizes, counts, categories, paths and order are computed again."""
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    given = {"images": [], "discovery": [], "trust": {}, "blobs": []}
    status = ""
    for line in files["manifest.yaml"].decode("ascii").splitlines():
        indent, is_item, key, value = re.fullmatch(r"( *)(- )?([^: ]+):? ?(.*)", line).groups()
        value, depth = unquoted(value), len(indent)
        if depth == 0 and key in ("stream", "created", "sequence"):
            given[key] = value
        elif (depth, key) == (2, "status") and not given["discovery"]:
            status = value
        elif is_item and key in ("reference", "repository"):
            record = {key: value, "omitted": {}, "missing": [], "artifacts": []}
            given["images" if key == "reference" else "discovery"].append(record)
        elif depth == 2 and key in ("omitted", "missing", "artifacts"):
            within = key
        elif is_item and depth == 2:
            digest = value
            record[within].append({key: value, "sources": []}) if within != "omitted" else None
        elif is_item and depth == 4:
            record["artifacts"][-1]["sources"].append(key if not value else f"{key}:{value}")
        elif key == "reason":
            record["omitted"][digest] = value
        elif depth == 4 and key in ("digest", "source", "tag"):
            record[within][-1][key] = value
        elif depth == 2 and key in ("digest", "subject", "capability", "method", "status"):
            record[key] = value
    for name, data in files.items():
        if name.startswith("trust/"):
            given["trust"][name[len("trust/") :]] = data
    given["incomplete"] = status == "incomplete"
    listed = json.loads(files["index.json"])["manifests"]
    tags = {
        one["digest"]
        for one in listed
        if re.fullmatch("sha256-[0-9a-f]{64}", one.get("annotations", {}).get(REF_NAME, ""))
        and NAME not in one["annotations"]
    }
    given["layout_tags"] = bool(tags)
    blobs = {sha256(data): data for name, data in files.items() if name.startswith("blobs/")}
    given["blobs"] = [data for digest, data in blobs.items() if digest not in tags]
    return given


def is_made_again(path):
    bundle = Bundle(given_of(path))
    data = path.read_bytes()
    return data == (bundle.tgz() if data[:2] == b"\x1f\x8b" else bundle.tar())


# --- vectors -----------------------------------------------------------------------------------------------------------


def read(folder):
    given = json.loads((folder / "input.json").read_text(encoding="utf-8"))
    base = read(folder.parent / given["base"]).yaml if "base" in given else None
    return Bundle(given, base)


def sums_of(files):
    """The form that `sha256sum -c` reads."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in files.items()).encode()


def documented(name, bundle):
    """Every file beside input.json, and the bundles whose digests are documented."""
    listing = "".join(f"{len(data)} {path}\n" for path, data in bundle.files())
    files = {"manifest.yaml": bundle.yaml, "index.json": bundle.index, "listing": listing.encode()}
    if bundle.signature:
        files["manifest.yaml.sigstore.json"] = bundle.signature
    whole = {f"{name}.tgz": bundle.tgz(), f"{name}.tar": bundle.tar()}
    size = bundle.given.get("volume_bytes")
    if size:
        for container, data in list(whole.items()):
            volumes = {}
            for number, at in enumerate(range(0, len(data), size), 1):
                volumes[f"{container}.{number:03}"] = data[at : at + size]
            whole |= volumes | {f"{path}.sha256": sums_of({path: volume}) for path, volume in volumes.items()}
            whole[f"{container}.sha256"] = sums_of(volumes)
    files["SHA256SUMS"] = sums_of(dict(sorted(whole.items())))
    return files, whole


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--update", action="store_true", help="write the files of a new vector")
    parser.add_argument("--again", action="store_true", help="the paths are bundles, which are made again")
    parser.add_argument("vectors", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    differ = 0
    for path in args.vectors if args.again else []:
        same = is_made_again(path)
        differ += not same
        print(f"{path}: {'the same bytes' if same else 'differs'}")
    if args.again:
        return 1 if differ else 0
    for folder in args.vectors:
        folder = folder.resolve()
        files, whole = documented(folder.name, read(folder))
        if args.out:
            for path, data in whole.items():
                (args.out / path).write_bytes(data)
        expected = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "input.json"}
        if args.update:
            for name, data in files.items():
                (folder / name).write_bytes(data)
            expected = files
        wrong = sorted(name for name in files.keys() | expected.keys() if files.get(name) != expected.get(name))
        differ += bool(wrong)
        print(f"{folder.name}: {'differs in ' + ', '.join(wrong) if wrong else 'the same bytes'}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
