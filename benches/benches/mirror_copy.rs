//! `stellaops mirror copy` against peers, from registry to registry.
//!
//! Ten images of two platforms with three incompressible layers of 10 MiB each, 60 referrers, and 15 legacy tags. Everything
//! is a process of its own: the registries (`stellaops store serve`, and docker-registry if it is on the path), the copies,
//! and the proxies that make each request take longer. Every figure of the table comes from one run on one machine; compare
//! the rows, not the numbers of two runs. Each row also says what of the referrers can be found at the target afterwards;
//! only ours has looked.
//!
//! `STELLAOPS` names the program; otherwise the one of the target directory is used, which a full run builds first. With
//! `--long` among the arguments, 2,000 images with ten referrers each are compared with 1,000.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use benches::{
    DockerRegistry, IMAGES, REPOSITORY, Server, announce, arguments_behind, cpu, fill, is_full,
    legacy_tags, peak_memory_of, proxy, serve_until_told, tag,
};
use test_registry::{Persona, TestRegistry};

const ADDED_MS: u64 = 20;
const REFERRERS: usize = 60;
const LEGACY_TAGS: usize = 15;

#[tokio::main]
async fn main() {
    if let Some(arguments) = arguments_behind("--serve") {
        return serve(&arguments).await;
    }
    if let Some(arguments) = arguments_behind("--proxy") {
        return proxy(&arguments).await;
    }
    let Some(program) = program() else {
        println!(
            "no stellaops in the target directory, and STELLAOPS does not name one: not measured"
        );
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = Bench {
        program,
        folder: folder.path().to_owned(),
    };
    if std::env::args().any(|argument| argument == "--long") {
        return bench.many();
    }
    let layer_bytes = if is_full() { 10 << 20 } else { 10 << 10 };
    println!(
        "{IMAGES} images of 6 layers of {} KiB, {REFERRERS} referrers and {LEGACY_TAGS} legacy tags",
        layer_bytes / 1024
    );
    let source = bench.source(layer_bytes);
    // A small run shows that the code works.
    let all = [0, ADDED_MS];
    for &added in if is_full() { &all[..] } else { &all[..1] } {
        for kind in [Kind::Store, Kind::Docker, Kind::Same] {
            bench.compare(&source, kind, added);
        }
    }
}

/// Finds the program: the one that is named, or the one beside this one, which a full run builds
/// anew.
fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("STELLAOPS") {
        return Some(named.into());
    }
    if is_full() {
        let mut build = Command::new(env!("CARGO"));
        let built = build
            .args(["build", "--release", "--locked", "-p", "stellaops"])
            .status();
        assert!(
            built.is_ok_and(|status| status.success()),
            "stellaops is built"
        );
    }
    let own = std::env::current_exe().ok()?;
    let beside = own.parent()?.parent()?.join("stellaops");
    beside.is_file().then_some(beside)
}

/// The other process: a registry in memory.
async fn serve(arguments: &[String]) {
    let number = |at: usize| -> usize { arguments[at].parse().expect("a number") };
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    if arguments[0] == "images" {
        fill(&registry, number(1));
        assert_eq!(legacy_tags(&registry), LEGACY_TAGS);
    } else {
        for image in 0..number(1) {
            let subject = registry.image("many/app", &format!("v{image}"));
            for referrer in 0..10 {
                let payload = format!("{image} {referrer}");
                registry.referrer("many/app", &subject, "application/spdx+json", payload);
            }
        }
    }
    announce(&registry.host());
    let told = tokio::task::spawn_blocking(serve_until_told).await;
    told.expect("it does not panic");
}

/// Where the images go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Another `store serve`, which has the referrers API.
    Store,
    /// docker-registry 2.8, which has none.
    Docker,
    /// Another repository of the source.
    Same,
}

/// How a row copies all images.
#[derive(Clone, Copy)]
enum Copier {
    Ours,
    Oras(Manner),
    Regctl(Manner),
}

#[derive(Clone, Copy)]
enum Manner {
    OneByOne,
    /// `xargs -P4`.
    Four,
}

struct Bench {
    program: PathBuf,
    folder: PathBuf,
}

/// A registry that is not this program, with the requests that it answered.
struct Registry {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    _process: Process,
    /// Its content, which goes with it.
    _folder: tempfile::TempDir,
}

/// A child process that ends when this is dropped.
enum Process {
    Store(Child),
    Docker(#[expect(dead_code, reason = "it is held until it is dropped")] DockerRegistry),
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Store(child) = self {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// What a row took.
struct Took {
    seconds: f64,
    cpu: f64,
    /// The largest resident set of a process that was started directly, in MiB.
    peak: f64,
    succeeded: bool,
}

impl Bench {
    /// Returns `stellaops` with caches and stores below a folder of this run.
    fn stellaops(&self, home: &str) -> Command {
        let mut command = Command::new(&self.program);
        let home = self.folder.join(home);
        command
            .env("HOME", &home)
            .env("XDG_DATA_HOME", home.join("data"))
            .env("XDG_STATE_HOME", home.join("state"))
            .env("XDG_CACHE_HOME", home.join("cache"));
        command
    }

    /// Fills a store with the images, through a bundle, and serves it.
    fn source(&self, layer_bytes: usize) -> Registry {
        let first = Server::start(&["--serve", "images", &layer_bytes.to_string()]);
        let first = first.expect("this program starts");
        let bundle = self.folder.join("bundle.tgz");
        let mut export = self.stellaops("home");
        export.args(["bundle", "export", "--output"]).arg(&bundle);
        export.args(images(&first.greeting, REPOSITORY));
        assert!(run(&mut export).succeeded, "the images are exported");
        let served = self.store();
        let mut import = self.stellaops("home");
        import.args(["bundle", "import", "--file"]).arg(&bundle);
        import.args(["--to", &served.address]);
        assert!(run(&mut import).succeeded, "the images are imported");
        drop(std::fs::remove_file(&bundle));
        served
    }

    /// Serves an empty store.
    fn store(&self) -> Registry {
        let folder = tempfile::tempdir_in(&self.folder).expect("a temporary folder");
        let mut command = self.stellaops("home");
        command
            .args([
                "store",
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--writable",
                "--folder",
            ])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            let (_, after) = line.split_once(" at http://")?;
            Some(after.split_once('/')?.0.to_owned())
        });
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for line in lines {
                if let Some((_, request)) = line.split_once("Request method=") {
                    let request = request.split(" status=").next().unwrap_or_default();
                    seen.lock()
                        .expect("no holder panics")
                        .push(request.to_owned());
                }
            }
        });
        Registry {
            address: address.expect("it says where it listens"),
            requests,
            _process: Process::Store(child),
            _folder: folder,
        }
    }

    fn docker(&self) -> Option<Registry> {
        let folder = tempfile::tempdir_in(&self.folder).expect("a temporary folder");
        let registry = DockerRegistry::start(&folder.path().join("registry"))?;
        Some(Registry {
            address: registry.address.clone(),
            requests: Arc::default(),
            _process: Process::Docker(registry),
            _folder: folder,
        })
    }

    /// Prints a table: ours and the peers', each into an empty target, and then again.
    fn compare(&self, source: &Registry, kind: Kind, added: u64) {
        let what = match kind {
            Kind::Store => "between two native registries",
            Kind::Docker => "into docker-registry, which has no referrers API",
            Kind::Same => "within one native registry",
        };
        println!("\n{what}, {added} ms added to each request");
        println!(
            "{:38} {:>8} {:>8} {:>8} {:>10} {:>9} {:>8} {:>10} {:>10}",
            "", "seconds", "CPU", "MiB", "referrers", "legacy", "again", "requests", "again"
        );
        let mut best = f64::INFINITY;
        let mut ours = None;
        for copier in [
            Copier::Ours,
            Copier::Oras(Manner::OneByOne),
            Copier::Oras(Manner::Four),
            Copier::Regctl(Manner::OneByOne),
            Copier::Regctl(Manner::Four),
        ] {
            let target = match kind {
                Kind::Store => Some(self.store()),
                Kind::Docker => self.docker(),
                Kind::Same => None,
            };
            if kind == Kind::Docker && target.is_none() {
                println!("no docker-registry on the path: not measured");
                return;
            }
            let seconds = self.row(source, target.as_ref(), copier, added);
            match (copier, seconds) {
                (Copier::Ours, seconds) => ours = seconds,
                (_, Some(seconds)) => best = best.min(seconds),
                (_, None) => {}
            }
        }
        if let (Some(ours), true) = (ours, best.is_finite()) {
            println!(
                "the best peer takes {:.2} times as long as ours",
                best / ours
            );
        }
    }

    /// Copies everything, twice, and prints what it took. Returns the seconds of the first time.
    fn row(
        &self,
        source: &Registry,
        target: Option<&Registry>,
        copier: Copier,
        added: u64,
    ) -> Option<f64> {
        let name = copier.name();
        // Also the name of a repository.
        let home = name.replace([',', ' ', '-'], "").to_lowercase();
        drop(std::fs::remove_dir_all(self.folder.join(&home)));
        // Without a target, each row has a repository of its own at the source.
        let prefix = target.is_none().then(|| format!("{home}-{added}"));
        let to = target.unwrap_or(source);
        // Nothing is in between unless it is to add time.
        let proxied =
            |registry: &Registry| (added > 0).then(|| Server::proxy(&registry.address, added));
        let (from_proxy, to_proxy) = (proxied(source), target.and_then(proxied));
        let address = |proxy: &Option<Server>, registry: &Registry| match proxy {
            Some(proxy) => proxy.greeting.clone(),
            None => registry.address.clone(),
        };
        let near = &address(&from_proxy, source);
        // A registry has to have one address here, or no copier can tell that source and target are
        // the same.
        let far = &target.map_or_else(|| near.clone(), |target| address(&to_proxy, target));
        let copy = || self.copy(copier, near, far, prefix.as_deref(), &home);
        source.forget_requests();
        to.forget_requests();
        let Some(first) = copy() else {
            println!("{name:38} not on the path");
            return None;
        };
        let of_first = requests(source, target);
        let (referrers, legacy) = self.found(&to.address, prefix.as_deref());
        source.forget_requests();
        to.forget_requests();
        let again = copy().filter(|again| again.succeeded);
        let of_again = requests(source, target);
        let failed = if first.succeeded { "" } else { ", and failed" };
        println!(
            "{name:38} {:8.2} {:8.2} {:8.1} {:>10} {:>9} {:8.2} {of_first:>10} {of_again:>10}{failed}",
            first.seconds,
            first.cpu,
            first.peak,
            format!("{referrers}/{REFERRERS}"),
            format!("{legacy}/{LEGACY_TAGS}"),
            again.map_or(f64::NAN, |again| again.seconds),
        );
        first.succeeded.then_some(first.seconds)
    }

    /// Copies everything once; `None` if the program is not there.
    fn copy(
        &self,
        copier: Copier,
        source: &str,
        target: &str,
        prefix: Option<&str>,
        home: &str,
    ) -> Option<Took> {
        let repository = at(prefix);
        let mut peer = match copier {
            Copier::Ours => {
                let mut command = self.stellaops(home);
                command
                    .args(["mirror", "copy"])
                    .args(images(source, REPOSITORY));
                let to = match prefix {
                    Some(prefix) => format!("{target}/{prefix}"),
                    None => target.to_owned(),
                };
                command.args(["--no-progress", "--to", &to]);
                return Some(run(&mut command));
            }
            Copier::Oras(_) => vec!["oras", "cp", "-r", "--from-plain-http", "--to-plain-http"],
            Copier::Regctl(_) => vec!["regctl", "image", "copy", "--referrers", "--digest-tags"],
        };
        let hosts = [source, target].map(|host| format!("--host=reg={host},tls=disabled"));
        if let Copier::Regctl(_) = copier {
            peer.extend(hosts.iter().map(String::as_str));
        }
        if !is_there(peer[0]) {
            return None;
        }
        let pairs = images(source, REPOSITORY).zip(images(target, &repository));
        match copier {
            Copier::Oras(Manner::Four) | Copier::Regctl(Manner::Four) => {
                let mut command = Command::new("xargs");
                command.args(["-P4", "-L1"]).args(&peer);
                let lines = pairs.map(|(from, to)| format!("{from} {to}\n"));
                let lines: String = lines.collect();
                Some(run_with(&mut command, &lines))
            }
            _ => {
                let mut all = Took::nothing();
                for (from, to) in pairs {
                    let mut command = Command::new(peer[0]);
                    all.add(&run(command.args(&peer[1..]).args([from, to])));
                }
                Some(all)
            }
        }
    }

    /// Counts what can be found at a target: referrers, and legacy tags.
    fn found(&self, registry: &str, prefix: Option<&str>) -> (usize, usize) {
        let (mut referrers, mut legacy) = (0, 0);
        for image in images(registry, &at(prefix)) {
            let mut command = self.stellaops("home");
            command.args([
                "referrers",
                "discover",
                "--platforms",
                "--format",
                "json",
                &image,
            ]);
            let output = command.output().expect("the program starts");
            let document = String::from_utf8_lossy(&output.stdout);
            let document: serde_json::Value = serde_json::from_str(&document).unwrap_or_default();
            for found in document["referrers"].as_array().into_iter().flatten() {
                if found["tag"].is_null() {
                    referrers += 1;
                } else {
                    legacy += 1;
                }
            }
        }
        (referrers, legacy)
    }

    /// Compares the time and memory of many images with those of half as many.
    fn many(&self) {
        let mut before: Option<Took> = None;
        for images in [1_000, 2_000] {
            let source = Server::start(&["--serve", "many", &images.to_string()]);
            let source = source.expect("this program starts");
            // In memory: the time of a push into a layout grows with what the layout has.
            let target = Server::start(&["--serve", "many", "0"]);
            let target = target.expect("this program starts");
            let mut command = self.stellaops(&format!("many-{images}"));
            command.args(["mirror", "copy", "--no-progress", "--to", &target.greeting]);
            let references =
                (0..images).map(|image| format!("{}/many/app:v{image}", source.greeting));
            let took = run(command.args(references));
            println!(
                "{images} images with 10 referrers each: {:.1} s, CPU {:.1} s, {:.1} MiB{}",
                took.seconds,
                took.cpu,
                took.peak,
                if took.succeeded { "" } else { ", and failed" }
            );
            if let Some(before) = &before {
                println!(
                    "twice as many take {:.2} times the time and {:.2} times the memory",
                    took.seconds / before.seconds,
                    took.peak / before.peak
                );
            }
            before = Some(took);
        }
    }
}

impl Copier {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "stellaops mirror copy",
            Self::Oras(Manner::OneByOne) => "oras cp -r",
            Self::Oras(Manner::Four) => "oras cp -r, xargs -P4",
            Self::Regctl(Manner::OneByOne) => "regctl image copy",
            Self::Regctl(Manner::Four) => "regctl image copy, xargs -P4",
        }
    }
}

impl Registry {
    fn forget_requests(&self) {
        self.requests.lock().expect("no holder panics").clear();
    }
}

/// Returns how many requests two registries answered; docker-registry does not say, and counts as none.
fn requests(source: &Registry, target: Option<&Registry>) -> usize {
    // What was written last is on its way.
    std::thread::sleep(Duration::from_millis(50));
    let of = |registry: &Registry| registry.requests.lock().expect("no holder panics").len();
    of(source) + target.map_or(0, of)
}

/// Returns the repository at the target.
fn at(prefix: Option<&str>) -> String {
    match prefix {
        Some(prefix) => format!("{prefix}/{REPOSITORY}"),
        None => REPOSITORY.to_owned(),
    }
}

fn images(registry: &str, repository: &str) -> impl Iterator<Item = String> {
    (0..IMAGES).map(move |number| format!("{registry}/{repository}:{}", tag(number)))
}

fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

impl Took {
    fn nothing() -> Self {
        Self {
            seconds: 0.0,
            cpu: 0.0,
            peak: 0.0,
            succeeded: true,
        }
    }

    fn add(&mut self, other: &Self) {
        self.seconds += other.seconds;
        self.cpu += other.cpu;
        self.peak = self.peak.max(other.peak);
        self.succeeded &= other.succeeded;
    }
}

fn run(command: &mut Command) -> Took {
    run_with(command, "")
}

/// Runs a program to its end; what it says is shown if it fails.
fn run_with(command: &mut Command, input: &str) -> Took {
    let before = cpu("self");
    let started = Instant::now();
    let spawned = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let mut stderr = child.stderr.take().expect("it is piped");
    let said = std::thread::spawn(move || {
        let mut said = Vec::new();
        drop(stderr.read_to_end(&mut said));
        said
    });
    let process = child.id().to_string();
    let mut peak = 0;
    let status = loop {
        peak = peak.max(peak_memory_of(&process));
        match child.try_wait().expect("it is our child") {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    let said = said.join().expect("it does not panic");
    if !status.success() {
        let said = String::from_utf8_lossy(&said);
        let last: Vec<&str> = said.lines().rev().take(3).collect();
        println!(
            "{}: {status}: {}",
            command.get_program().display(),
            last.join(" / ")
        );
    }
    Took {
        seconds,
        cpu: (cpu("self") - before).as_secs_f64(),
        peak: peak as f64 / f64::from(1 << 20),
        succeeded: status.success(),
    }
}
