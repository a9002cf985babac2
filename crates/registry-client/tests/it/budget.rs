//! The client's own budget: requests per second, and the window in which it speaks to a registry.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use oci_content::Digest;
use registry_client::{
    BlobPush, Client, HostOptions, MemorySink, Repository, RequestObserver, RequestRate, Window,
};

use crate::bearer::{challenge, good, is_token, tag, user, with};
use crate::support::{Recorder, Server, answer, name as name_of, options};

const OK: StatusCode = StatusCode::OK;

fn paced(requests: f64) -> HostOptions {
    let mut host = HostOptions::default();
    host.requests_per_second = RequestRate::per_second(requests);
    host
}

/// A window that is opened by hand.
#[derive(Debug, Default)]
struct Door(AtomicBool);

impl Door {
    fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn close(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("by hand")
    }
}

impl Window for Door {
    fn until_open(&self) -> Duration {
        let open = self.0.load(Ordering::Relaxed);
        Duration::from_millis(if open { 0 } else { 5 })
    }
}

/// Waits until the observer was told of a wait for the budget.
async fn held(recorder: &Recorder) {
    while recorder.held.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn every_request_to_the_registry_counts_whatever_it_is_for() {
    let refused = AtomicUsize::new(0);
    let server = Server::start(move |seen, _| match seen.authorization() {
        _ if is_token(seen) => good(),
        Some("Bearer good") if seen.target.ends_with("/moved") => answer(200).body("{}"),
        Some("Bearer good") if refused.fetch_add(1, Ordering::Relaxed) < 2 => answer(503),
        Some("Bearer good") => answer(307).header("Location", "/moved"),
        _ => challenge(seen),
    })
    .await;
    let rate = 10.0;
    let recorder = Arc::new(Recorder::default());
    let mut options = with(user());
    let name = server.registry().to_string();
    options.hosts.insert(name, paced(rate));
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let client = Client::new(options).unwrap();
    let one = client.repository(&server.registry(), &name_of("team/app"));
    let two = client.clone();
    let two = two.repository(&server.registry(), &name_of("team/other"));
    let started = Instant::now();
    let tag = tag();
    let (one, two) = tokio::join!(one.get_manifest(&tag), two.get_manifest(&tag));
    assert_eq!((one.unwrap().status(), two.unwrap().status()), (OK, OK));
    let took = started.elapsed().as_secs_f64();
    let all = server.lines();
    assert_eq!(all.len(), 1 + 2 + 2 + 2 + 2, "{all:?}");
    assert!(all.len() as f64 <= rate * took + 1.0, "{took} s: {all:?}");
    let told = recorder.held.lock().unwrap();
    assert!(told.iter().all(|told| told == "10 per second"), "{told:?}");
    assert!(!told.is_empty());
}

#[tokio::test]
async fn nothing_is_sent_before_the_window_opens_and_that_is_said() {
    let server = Server::start(|_, _| answer(200).body("{}")).await;
    let door = Arc::new(Door::default());
    let mut host = HostOptions::default();
    host.window = Some(Arc::<Door>::clone(&door));
    let recorder = Arc::new(Recorder::default());
    let mut options = options();
    options.hosts.insert(server.registry().to_string(), host);
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let repository = server.repository(options);
    let tag = tag();
    let call = repository.get_manifest(&tag);
    let open = async {
        held(&recorder).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(server.lines().len(), 0);
        door.open();
    };
    let (answer, ()) = tokio::join!(call, open);
    assert_eq!(answer.unwrap().status(), OK);
    assert_eq!(*recorder.held.lock().unwrap(), ["by hand"]);
    repository.get_manifest(&tag).await.unwrap();
    assert_eq!(recorder.held.lock().unwrap().len(), 1, "it is open");
}

#[tokio::test]
async fn a_window_that_closes_while_a_request_is_in_line_holds_it() {
    let server = Server::start(|_, _| answer(200).body("{}")).await;
    let door = Arc::new(Door::default());
    let recorder = Arc::new(Recorder::default());
    let mut options = options();
    let mut host = paced(1.0);
    host.window = Some(Arc::<Door>::clone(&door));
    options.hosts.insert(server.registry().to_string(), host);
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let repository = server.repository(options);
    let tag = tag();
    door.open();
    repository.get_manifest(&tag).await.unwrap();
    let second = repository.get_manifest(&tag);
    let close = async {
        held(&recorder).await;
        door.close();
        while recorder.held.lock().unwrap().last().unwrap() != "by hand" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(server.lines().len(), 1);
        door.open();
    };
    let (answer, ()) = tokio::join!(second, close);
    assert_eq!(answer.unwrap().status(), OK);
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn the_window_of_a_job_holds_its_clone_alone() {
    let server = Server::start(|_, _| answer(200).body("{}")).await;
    let door = Arc::new(Door::default());
    let client = Client::new(options()).unwrap();
    let recorder = Arc::new(Recorder::default());
    let own: Arc<dyn RequestObserver> = Arc::<Recorder>::clone(&recorder);
    let job = client
        .with_window(Arc::<Door>::clone(&door))
        .with_observer(own);
    let (registry, name, tag) = (server.registry(), name_of("team/app"), tag());
    let repository = job.repository(&registry, &name);
    let held_call = repository.get_manifest(&tag);
    let others = async {
        held(&recorder).await;
        let repository = client.repository(&registry, &name);
        repository.get_manifest(&tag).await.unwrap();
        assert_eq!(server.lines().len(), 1);
        door.open();
    };
    let (answer, ()) = tokio::join!(held_call, others);
    assert_eq!(answer.unwrap().status(), OK);
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_limit_that_a_stopwatch_measures_leaves_the_wait_for_the_window_out() {
    let server = Server::start(|_, _| answer(200).body("{}")).await;
    let door = Arc::new(Door::default());
    let client = Client::new(options()).unwrap();
    let job = client.with_window(Arc::<Door>::clone(&door));
    let repository = job.repository(&server.registry(), &name_of("team/app"));
    let (limit, tag) = (Duration::from_secs(1), tag());
    let stopwatch = client.stopwatch(&server.registry());
    let started = Instant::now();
    let call = stopwatch.within(limit, repository.get_manifest(&tag));
    let open = async {
        tokio::time::sleep(limit * 3 / 2).await;
        door.open();
    };
    let (answer, ()) = tokio::join!(call, open);
    assert_eq!(answer.unwrap().unwrap().status(), OK);
    assert!(started.elapsed() > limit);
    assert!(stopwatch.elapsed() < started.elapsed());
    let elsewhere = "other.test".parse().unwrap();
    assert!(client.stopwatch(&elsewhere).elapsed() < limit);
}

#[tokio::test]
async fn a_rate_limit_of_the_registry_is_obeyed_within_the_budget() {
    let server = Server::start(|_, before| match before {
        0 => answer(429).header("Retry-After", "1"),
        _ => answer(200).body("{}"),
    })
    .await;
    let recorder = Arc::new(Recorder::default());
    let mut options = options();
    options
        .hosts
        .insert(server.registry().to_string(), paced(20.0));
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let repository = server.repository(options);
    let tag = tag();
    let started = Instant::now();
    repository.get_manifest(&tag).await.unwrap();
    let calls = (0..5).map(|_| repository.get_manifest(&tag));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.unwrap().status(), OK);
    }
    let took = started.elapsed();
    assert_eq!(server.lines().len(), 7);
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(7.0 <= 20.0 * took.as_secs_f64() + 2.0, "{took:?}");
    let rate_limit = (Duration::from_secs(1), Some(429));
    assert_eq!(*recorder.waits.lock().unwrap(), [rate_limit]);
}

fn limited(server: &Server, bytes: u64, recorder: &Arc<Recorder>) -> Repository {
    let mut host = HostOptions::default();
    host.bytes_per_second = NonZeroU64::new(bytes);
    let mut options = options();
    // Less than a wait for the budget takes.
    options.idle_timeout = Duration::from_millis(300);
    options.hosts.insert(server.registry().to_string(), host);
    options.observer = Some(Arc::<Recorder>::clone(recorder));
    server.repository(options)
}

#[tokio::test]
async fn blobs_that_are_fetched_share_the_bytes_per_second() {
    let blob = vec![7; 2_000_000];
    let digest = Digest::of(&blob);
    let (rate, size) = (8_000_000, blob.len() as u64);
    let server = Server::start(move |_, _| answer(200).body(&blob)).await;
    let recorder = Arc::new(Recorder::default());
    let repository = limited(&server, rate, &recorder);
    let started = Instant::now();
    let pull = async || {
        let mut sink = MemorySink::new(digest.clone(), size);
        repository.pull_blob(&digest, size, &mut sink).await
    };
    for pulled in futures::future::join_all((0..4).map(|_| pull())).await {
        pulled.unwrap();
    }
    // But for the burst and the last piece of each.
    let (took, paid) = (started.elapsed().as_secs_f64(), 4 * (size - 500_000));
    assert!(paid as f64 <= rate as f64 * (took + 0.1), "{took} s");
    let told = recorder.held.lock().unwrap();
    assert_eq!(*told, vec!["8000000 bytes per second"; told.len()]);
    assert!((1..=4).contains(&told.len()), "{told:?}");
}

#[tokio::test]
async fn a_transfer_that_waits_for_its_bytes_is_not_stalled_in_either_direction() {
    let blob = vec![7; 1_000_000];
    let digest = Digest::of(&blob);
    let (rate, size) = (400_000, blob.len() as u64);
    let content = bytes::Bytes::from(blob.clone());
    let server = Server::start(move |seen, _| match seen.method.as_str() {
        "GET" => answer(200).body(&blob),
        "POST" => answer(202).header("Location", "/v2/team/app/blobs/uploads/id"),
        _ if seen.body == blob => answer(201),
        _ => answer(400),
    })
    .await;
    let recorder = Arc::new(Recorder::default());
    let repository = limited(&server, rate, &recorder);
    let mut sink = MemorySink::new(digest.clone(), size);
    repository
        .pull_blob(&digest, size, &mut sink)
        .await
        .unwrap();
    let started = Instant::now();
    let pushed = repository.push_blob(&digest, size, &content, None).await;
    assert_eq!(pushed.unwrap(), BlobPush::Uploaded);
    // But for the burst and the last piece.
    let (took, paid) = (started.elapsed().as_secs_f64(), size - 300_000);
    assert!(paid as f64 <= rate as f64 * (took + 0.1), "{took} s");
    let methods: Vec<_> = server.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["GET", "POST", "PUT"]);
    let told = recorder.held.lock().unwrap();
    assert_eq!(
        *told,
        ["400000 bytes per second", "400000 bytes per second"]
    );
}
