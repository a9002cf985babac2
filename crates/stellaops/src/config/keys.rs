//! Every key of the configuration, as its JSON Schema and its documentation describe it.
//!
//! What the parser accepts is decided by the types; tests compare both, in either direction.

use super::key::{Form, Key, Section};

const POSITIVE: Form = Form::Integer(1, None);
const REFERENCE: Form = Form::Text("REGISTRY/REPOSITORY[:TAG][@DIGEST]", None);
const PLATFORMS: Form = Form::List(
    0,
    &Form::Text("OS/ARCH[/VARIANT]", Some("^[^/]+/[^/]+(/[^/]+)?$")),
);
const WINDOW: Form = Form::Text(
    "HH:MM-HH:MM",
    Some("^ *[0-9]{1,2}:[0-9]{2} *- *[0-9]{1,2}:[0-9]{2} *$"),
);
const ZONE: Form = Form::Text("an IANA name", None);
const PATTERN: Form = Form::Text("a regular expression", None);

/// The whole configuration.
pub(crate) static CONFIG: Section = Section {
    keys: &[
        Key::new(
            "export",
            Form::Section(&EXPORT),
            "The defaults of exports, and what `bundle export` exports if no references are given.",
        )
        .otherwise("the defaults of its keys"),
        Key::new(
            "import",
            Form::Section(&IMPORT),
            "What imports demand of bundles.",
        )
        .otherwise("the defaults of its keys"),
        Key::new(
            "registries",
            Form::Named("HOST[:PORT]", &REGISTRY),
            "Settings by registry, named as in references.",
        )
        .default("{}"),
        Key::new(
            "jobs",
            Form::Named("JOB", &JOB),
            "What is mirrored where, and when. Names consist of lower-case letters, digits, `.`, `_` and `-`.",
        )
        .default("{}"),
        Key::new(
            "center",
            Form::Section(&CENTER),
            "The settings of the service, `export-center`.",
        )
        .otherwise("the defaults of its keys"),
    ],
    one_of: &[],
};

static EXPORT: Section = Section {
    keys: &[
        Key::new("output", Form::Path, "The bundle to write.")
            .otherwise("`--output` is required")
            .example("bundle.tgz"),
        Key::new("base", Form::Path, "The bundle that a delta is based on.")
            .otherwise("the bundle is a full one")
            .example("bundle-6.tgz"),
        Key::new(
            "images",
            Form::List(0, &Form::Section(&IMAGE)),
            "The images to export if none are named on the command line.",
        )
        .default("[]"),
        Key::new(
            "platforms",
            PLATFORMS,
            "The platforms to carry of each image index.",
        )
        .otherwise("all platforms")
        .example("[linux/amd64, linux/arm64]"),
        Key::new(
            "referrer_discovery",
            Form::Section(&DISCOVERY),
            "How referrers are looked for.",
        )
        .otherwise("the defaults of its keys"),
    ],
    one_of: &[],
};

static DISCOVERY: Section = Section {
    keys: &[
        Key::new(
            "timeout_seconds",
            POSITIVE,
            "The time for everything that is asked about one image before its blobs.",
        )
        .default("120")
        .unit("seconds")
        .example("300"),
        Key::new(
            "max_concurrent_discoveries",
            POSITIVE,
            "The number of images whose referrers are looked for at the same time.",
        )
        .default("4")
        .unit("images")
        .example("8"),
    ],
    one_of: &[],
};

static IMPORT: Section = Section {
    keys: &[
        Key::new(
            "stream",
            Form::Text("NAME", None),
            "The only stream whose bundles are accepted.",
        )
        .otherwise("bundles of every stream")
        .example("nightly"),
        Key::new(
            "require_sequence",
            Form::Boolean,
            "Whether bundles without a sequence are refused.",
        )
        .default("false")
        .example("true"),
    ],
    one_of: &[],
};

static REGISTRY: Section = Section {
    keys: &[
        Key::new(
            "plain_http",
            Form::Boolean,
            "Whether the registry speaks HTTP without TLS.",
        )
        .otherwise("only loopback does")
        .example("true"),
        Key::new(
            "max_in_flight",
            POSITIVE,
            "The most requests that are under way at the same time; fewer while the registry throttles.",
        )
        .otherwise("16")
        .unit("requests")
        .example("8"),
        Key::new(
            "requests_per_second",
            Form::Number,
            "The most requests that are sent in a second, retries included.",
        )
        .otherwise("no limit")
        .unit("requests per second")
        .example("50"),
        Key::new(
            "bytes_per_second",
            Form::Bytes,
            "The most bytes of blobs that pass in a second, in both directions together; at least 1000.",
        )
        .otherwise("no limit")
        .unit("bytes per second")
        .example("20MB"),
        Key::new(
            "window",
            WINDOW,
            "The time of day in which requests are sent; it may end on the next day.",
        )
        .otherwise("at any time")
        .example("\"22:00-06:00\""),
        Key::new("time_zone", ZONE, "The time zone of `window`.")
            .otherwise("the machine's")
            .example("Europe/Berlin")
            .with(&["window"]),
        Key::new(
            "referrers_api",
            Form::Word(&["unsupported"]),
            "Says that the registry has no referrers API, where its answers do not show it.",
        )
        .otherwise("the registry is asked")
        .example("unsupported"),
        Key::new(
            "ca_file",
            Form::Path,
            "Certificates to trust as well, in PEM: those of authorities, or the registry's own.",
        )
        .otherwise("the machine's authorities")
        .example("/etc/stellaops/ca.pem"),
        Key::new(
            "client_cert",
            Form::Path,
            "The client certificate for this registry, in PEM.",
        )
        .otherwise("none")
        .example("/etc/stellaops/client.pem")
        .with(&["client_key"]),
        Key::new(
            "client_key",
            Form::SecretKey,
            "The key of `client_cert`, in PEM.",
        )
        .otherwise("none")
        .example("/etc/stellaops/client.key")
        .with(&["client_cert"]),
        Key::new(
            "insecure_skip_verify",
            Form::Boolean,
            "Switches off verification of the registry's certificate; for labs only.",
        )
        .default("false")
        .example("true"),
    ],
    one_of: &[],
};

static JOB: Section = Section {
    keys: &[
        Key::new(
            "images",
            Form::List(1, &Form::Section(&IMAGE)),
            "The images, at least one entry.",
        ),
        Key::new(
            "platforms",
            PLATFORMS,
            "The platforms to carry of each image index.",
        )
        .otherwise("all platforms")
        .example("[linux/amd64]"),
        Key::new(
            "policy",
            Form::Path,
            "The file with the rules that the images have to satisfy.",
        )
        .otherwise("no rules")
        .example("/etc/stellaops/policy.yaml"),
        Key::new("to", Form::Section(&TO), "Where the images go."),
        Key::new(
            "schedule",
            Form::Section(&SCHEDULE),
            "When the service runs the job.",
        )
        .otherwise("on demand only"),
        Key::new(
            "audit",
            Form::Section(&AUDIT),
            "When the service asks the target whether everything that the job brought is still there. Only with `to.registry`.",
        )
        .otherwise("never"),
        Key::new(
            "notify",
            Form::List(0, &Form::Section(&NOTIFY)),
            "Where the ends of runs are reported.",
        )
        .default("[]"),
    ],
    one_of: &[],
};

static IMAGE: Section = Section {
    keys: &[
        Key::new("reference", REFERENCE, "One image.")
            .otherwise("`repository` or `repositories` is given")
            .example("registry.example.com/team/app:1.0"),
        Key::new(
            "repository",
            Form::Text("REGISTRY/REPOSITORY", None),
            "A repository, from which `tags` selects.",
        )
        .otherwise("`reference` or `repositories` is given")
        .example("registry.example.com/team/db"),
        Key::new(
            "repositories",
            Form::Text("REGISTRY/PATTERN", None),
            "All repositories of the registry's catalog that match: `*` is anything between two slashes, `**` is anything.",
        )
        .otherwise("`reference` or `repository` is given")
        .example("registry.example.com/team/*"),
        Key::new(
            "tags",
            Form::Section(&TAGS),
            "Which tags are selected; all conditions have to hold.",
        )
        .otherwise("all tags")
        .with(&["repository", "repositories"]),
        Key::new(
            "required",
            Form::Boolean,
            "Whether it is an error if nothing is selected.",
        )
        .otherwise("false")
        .example("true")
        .with(&["repository", "repositories"]),
    ],
    one_of: &["reference", "repository", "repositories"],
};

static TAGS: Section = Section {
    keys: &[
        Key::new(
            "semver",
            Form::Text("a range of versions", None),
            "Only tags that are versions in this range, as Cargo writes it.",
        )
        .otherwise("every tag")
        .example("\">=1.2, <2\""),
        Key::new("regex", PATTERN, "Only tags in which this is found.")
            .otherwise("every tag")
            .example("\"^v[0-9]\""),
        Key::new("exclude", PATTERN, "Tags in which this is found are left out.")
            .otherwise("none is left out")
            .example("\"-(rc|beta)\""),
        Key::new(
            "newest",
            POSITIVE,
            "How many to take of the tags that are left, the last ones by `order`.",
        )
        .otherwise("all of them")
        .unit("tags")
        .example("3"),
        Key::new(
            "order",
            Form::Word(&["semver", "alphabetical", "created"]),
            "What `newest` goes by: the version, the name, or the time that the image's configuration states.",
        )
        .default("semver")
        .example("created"),
    ],
    one_of: &[],
};

static TO: Section = Section {
    keys: &[
        Key::new(
            "registry",
            Form::Text("REGISTRY[/PREFIX]", None),
            "A registry, with a prefix for the repositories.",
        )
        .otherwise("`oci` or `bundle` is given")
        .example("registry.inside.example/mirror"),
        Key::new("oci", Form::Path, "An OCI image layout folder.")
            .otherwise("`registry` or `bundle` is given")
            .example("/srv/mirror/layout"),
        Key::new(
            "bundle",
            Form::Text(
                "a path with {sequence} in the file name",
                Some("^([^{}]*/)?[^{}/]*[{]sequence[}][^{}/]*$"),
            ),
            "A series of bundles: `{sequence}` is replaced by the number of each. The service writes them.",
        )
        .otherwise("`registry` or `oci` is given")
        .example("\"/srv/mirror/nightly-{sequence}.tgz\""),
        Key::new(
            "keep_host",
            Form::Boolean,
            "Whether repositories are named PREFIX/HOST/REPOSITORY.",
        )
        .otherwise("false")
        .example("true")
        .with(&["registry"]),
        Key::new(
            "map",
            Form::List(0, &Form::Text(
                "REGISTRY/REPOSITORY=REPOSITORY",
                Some("^[^=]+=[^=]+$"),
            )),
            "Names for single repositories at the target.",
        )
        .default("[]")
        .example("[registry.example.com/team/db=data/base]")
        .with(&["registry"]),
        Key::new(
            "prune",
            Form::Boolean,
            "Whether each run removes what an earlier run made and no rule selects any more.",
        )
        .otherwise("false")
        .example("true")
        .with(&["registry"]),
        Key::new(
            "max_prune",
            Form::Integer(0, None),
            "The most tags that a prune removes without `--yes`.",
        )
        .otherwise("a quarter of the job's tags")
        .unit("tags")
        .example("20")
        .with(&["registry"]),
        Key::new(
            "sign_key",
            Form::SecretKey,
            "The private key that bundles are signed with (ECDSA P-256, PKCS#8 in PEM).",
        )
        .otherwise("bundles are not signed")
        .example("/etc/stellaops/sign.key")
        .with(&["bundle"]),
        Key::new(
            "volume_size",
            Form::Text("a number of bytes, such as 650MB or 4GiB, or `fat32`, `dvd`, `bd`", None),
            "Bundles are cut into files of at most this size.",
        )
        .otherwise("one file")
        .example("fat32")
        .with(&["bundle"]),
        Key::new(
            "full_every",
            POSITIVE,
            "Every Nth bundle is a full one; those in between are deltas on the last full one.",
        )
        .otherwise("all are full")
        .unit("bundles")
        .example("7")
        .with(&["bundle"]),
        Key::new(
            "keep",
            POSITIVE,
            "The number of bundles that are kept, besides those that they are deltas on.",
        )
        .otherwise("all of them")
        .unit("bundles")
        .example("14")
        .with(&["bundle"]),
    ],
    one_of: &["registry", "oci", "bundle"],
};

const CRON: Key = Key::new(
    "cron",
    Form::Text("MINUTE HOUR DAY MONTH WEEKDAY", None),
    "When a run begins, in the five fields of cron.",
)
.example("\"0 2 * * *\"");
const SCHEDULE_ZONE: Key = Key::new("time_zone", ZONE, "The time zone of `cron` and `window`.")
    .otherwise("the machine's")
    .example("Europe/Berlin");
const JITTER: Key = Key::new(
    "jitter_seconds",
    Form::Integer(0, Some(86_400)),
    "The longest delay of a run's start; each delay is random.",
)
.default("0")
.unit("seconds")
.example("300");
const SCHEDULE_WINDOW: Key = Key::new(
    "window",
    WINDOW,
    "The time of day in which runs speak to registries; it may end on the next day.",
)
.otherwise("at any time")
.example("\"01:00-05:00\"");

static SCHEDULE: Section = Section {
    keys: &[CRON, SCHEDULE_ZONE, JITTER, SCHEDULE_WINDOW],
    one_of: &[],
};

static AUDIT: Section = Section {
    keys: &[
        CRON,
        SCHEDULE_ZONE,
        JITTER,
        SCHEDULE_WINDOW,
        Key::new(
            "repair",
            Form::Boolean,
            "Whether what is missing or changed is sent again.",
        )
        .default("false")
        .example("true"),
    ],
    one_of: &[],
};

static NOTIFY: Section = Section {
    keys: &[
        Key::new(
            "url",
            Form::Text(
                "https://…, http:// on loopback, env:VAR or file:PATH",
                Some("^(https?://|env:.|file:.)"),
            ),
            "Where the run is sent with POST. Give a URL that contains a secret as `env:VAR` or `file:PATH`.",
        )
        .example("https://hooks.example.com/x"),
        Key::new(
            "on",
            Form::List(1, &Form::Word(&[
                "succeeded",
                "incomplete",
                "failed",
                "cancelled",
                "expired",
            ])),
            "The ends of runs to report, at least one.",
        )
        .example("[failed, incomplete]"),
        Key::new(
            "secret",
            Form::Secret,
            "What deliveries are signed with, in `X-Stellaops-Signature`.",
        )
        .otherwise("deliveries are not signed")
        .example("env:HOOK_SECRET"),
    ],
    one_of: &[],
};

static CENTER: Section = Section {
    keys: &[
        Key::new(
            "listen",
            Form::Text("ADDRESS:PORT", None),
            "Where the API and the status page are served. Beyond loopback, `tls` and `tokens` are required.",
        )
        .default("127.0.0.1:8443")
        .example("0.0.0.0:8443"),
        Key::new(
            "state",
            Form::Path,
            "The folder of the database, of logs of runs and of partial files.",
        )
        .default("/var/lib/stellaops")
        .example("/var/lib/stellaops"),
        Key::new(
            "log_file",
            Form::Path,
            "The log; it is opened anew on SIGHUP.",
        )
        .default("/var/log/stellaops/export-center.log")
        .example("/var/log/stellaops/export-center.log"),
        Key::new("tls", Form::Section(&TLS), "TLS for the API and the page.")
            .otherwise("plain HTTP, on loopback only"),
        Key::new(
            "tokens",
            Form::Path,
            "The token file, which `export-center token add` writes.",
        )
        .otherwise("no tokens: every user of this machine may do everything")
        .example("/etc/stellaops/tokens"),
        Key::new(
            "tenant",
            Form::Text("NAME", Some("^[!-~]+$")),
            "The only value of the header `X-Stella-Tenant` that is accepted.",
        )
        .default("default")
        .example("default"),
    ],
    one_of: &[],
};

static TLS: Section = Section {
    keys: &[
        Key::new(
            "cert",
            Form::Path,
            "The certificate with its chain, in PEM.",
        )
        .example("/etc/stellaops/cert.pem"),
        Key::new("key", Form::SecretKey, "The key of `cert`, in PEM.")
            .example("/etc/stellaops/key.pem"),
        Key::new(
            "client_ca",
            Form::Path,
            "The authorities of client certificates, in PEM; every client then needs one.",
        )
        .otherwise("clients need no certificate")
        .example("/etc/stellaops/clients.pem"),
    ],
    one_of: &[],
};
