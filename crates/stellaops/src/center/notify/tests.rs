use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use tokio::net::TcpListener;

use super::*;
use crate::log::{LogFormat, LogLevel};

/// Deliveries that outlive a notifier.
#[derive(Debug, Default)]
struct Kept(Mutex<BTreeMap<String, Delivery>>);

impl Kept {
    fn with(deliveries: Vec<Delivery>) -> Arc<Self> {
        let kept = deliveries
            .into_iter()
            .map(|delivery| (delivery.id.clone(), delivery));
        Arc::new(Self(Mutex::new(kept.collect())))
    }

    fn all(&self) -> Vec<Delivery> {
        self.0.lock().unwrap().values().cloned().collect()
    }
}

impl DeliveryStore for Kept {
    fn pending(&self, limit: usize) -> Result<Vec<Delivery>, StateError> {
        let mut all = self.all();
        all.sort_by_key(|delivery| delivery.due);
        all.truncate(limit);
        Ok(all)
    }

    fn retry(&self, delivery: &Delivery) -> Result<(), StateError> {
        let mut kept = self.0.lock().unwrap();
        kept.insert(delivery.id.clone(), delivery.clone());
        Ok(())
    }

    fn done(&self, id: &str) -> Result<(), StateError> {
        self.0.lock().unwrap().remove(id);
        Ok(())
    }
}

/// A receiver that gives prepared answers, and then 204.
#[derive(Clone, Debug)]
struct Receiver {
    url: String,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    taken: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

#[derive(Debug)]
enum Answer {
    Status(StatusCode),
    Redirect(String),
    Never,
}

impl Receiver {
    async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let receiver = Self {
            url: format!("http://{}/hook", listener.local_addr().unwrap()),
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            taken: Arc::default(),
        };
        let app = Router::new()
            .route("/hook", post(Self::take))
            .with_state(receiver.clone());
        tokio::spawn(axum::serve(listener, app).into_future());
        receiver
    }

    async fn take(Shared(own): Shared<Self>, headers: HeaderMap, body: Bytes) -> Response {
        own.taken.lock().unwrap().push((headers, body));
        let answer = own.answers.lock().unwrap().pop_front();
        match answer {
            None => StatusCode::NO_CONTENT.into_response(),
            Some(Answer::Status(status)) => status.into_response(),
            Some(Answer::Redirect(to)) => (StatusCode::FOUND, [("location", to)]).into_response(),
            Some(Answer::Never) => std::future::pending().await,
        }
    }

    fn taken(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

fn config(hooks: &[&str]) -> Config {
    let job = "images: [{reference: r.test/a}], to: {oci: f}";
    let hooks = hooks.join(", ");
    let yaml = format!("jobs:\n  nightly: {{{job}, notify: [{hooks}]}}\n");
    Config::parse(&yaml, "c.yaml").unwrap()
}

fn run(status: RunStatus) -> Run {
    let run = serde_json::json!({
        "id": "20261130-000017", "job": "nightly", "kind": "bundle", "trigger": "schedule", "status": status,
        "created": "2026-11-30T02:00:00Z", "started": "2026-11-30T02:00:01Z", "finished": "2026-11-30T02:10:00Z",
        "progress": {}, "outputs": [], "referrers": {}, "warnings": [],
        "errors": [{"message": "it broke", "code": 9}], "sequence": null,
    });
    serde_json::from_value(run).unwrap()
}

fn kept(config: &Config, status: RunStatus) -> Arc<Kept> {
    let (_, job) = config.jobs.iter().next().unwrap();
    Kept::with(deliveries(&run(status), &job.notify, Timestamp::now()))
}

fn notifier(store: &Arc<Kept>) -> Notifier {
    let log = Arc::new(Log::new(LogLevel::Error, LogFormat::Text, None).unwrap());
    let store: Arc<dyn DeliveryStore> = Arc::<Kept>::clone(store);
    let mut notifier = Notifier::new(store, log).unwrap();
    notifier.waits = [20, 40, 80, 160, 160, 160].map(Duration::from_millis);
    notifier
}

/// Lets a notifier work until `is_done`, at most 5 s.
async fn until(notifier: &Notifier, config: Config, is_done: impl Fn() -> bool + Send + Sync) {
    let config = Arc::new(config);
    let started = Instant::now();
    tokio::select! {
        () = notifier.run(|| Arc::clone(&config)) => {}
        () = async {
            while !is_done() && started.elapsed() < Duration::from_secs(5) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    assert!(is_done(), "{notifier:?}");
}

#[tokio::test]
async fn a_run_is_told_once_signed_and_forgotten_when_it_is_taken() {
    let receiver = Receiver::start([]).await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let hook = format!(
        "{{url: \"{}\", on: [failed], secret: \"file:{}\"}}",
        receiver.url,
        secret.display()
    );
    let config = config(&[&hook]);
    let store = kept(&config, RunStatus::Failed);
    assert_eq!(store.all().len(), 1);
    until(&notifier(&store), config, || store.all().is_empty()).await;

    let taken = receiver.taken.lock().unwrap();
    let [(headers, body)] = taken.as_slice() else {
        panic!("{taken:?}");
    };
    let header = |name: &str| headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "application/json");
    assert!(header("x-stellaops-delivery").starts_with("20261130-000017-"));
    let document: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(document["runId"], "20261130-000017");
    assert_eq!(document["status"], "failed");
    let (time, sum) = header("x-stellaops-signature").split_once(',').unwrap();
    let time: i64 = time.strip_prefix("t=").unwrap().parse().unwrap();
    assert!((Timestamp::now().as_second() - time).abs() < 10);
    let sum = hex::decode(sum.strip_prefix("v1=").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"hunter2").unwrap();
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    mac.verify_slice(&sum).unwrap();
}

#[test]
fn the_signature_is_the_one_that_openssl_computes() {
    // printf '1700000000.{}' | openssl dgst -sha256 -hmac key
    assert_eq!(
        signature(b"key", 1_700_000_000, b"{}"),
        "t=1700000000,v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
    );
}

#[test]
fn only_the_ends_that_are_wanted_are_told_and_each_receiver_once() {
    let config = config(&[
        "{url: \"https://a.test/x\", on: [failed, incomplete]}",
        "{url: \"https://a.test/x\", on: [failed]}",
        "{url: \"https://b.test/x\", on: [succeeded]}",
        "{url: \"env:HOOK\", on: [failed]}",
    ]);
    for (status, count) in [
        (RunStatus::Failed, 2),
        (RunStatus::Incomplete, 1),
        (RunStatus::Succeeded, 1),
        (RunStatus::Cancelled, 0),
        (RunStatus::Running, 0),
    ] {
        assert_eq!(kept(&config, status).all().len(), count, "{status:?}");
    }
    let kept = kept(&config, RunStatus::Failed).all();
    assert!(!format!("{kept:?}").contains("a.test"), "{kept:?}");
}

#[tokio::test]
async fn what_was_not_taken_is_told_again_later_also_after_a_restart() {
    let status =
        [500, 404, 503].map(|status| Answer::Status(StatusCode::from_u16(status).unwrap()));
    let receiver = Receiver::start(status).await;
    let hook = format!("{{url: \"{}\", on: [failed]}}", receiver.url);
    let store = kept(&config(&[&hook]), RunStatus::Failed);
    let first = notifier(&store);
    until(&first, config(&[&hook]), || {
        store.all().first().is_some_and(|kept| kept.attempts == 2)
    })
    .await;
    drop(first);
    let second = notifier(&store);
    until(&second, config(&[&hook]), || store.all().is_empty()).await;
    let taken = receiver.taken.lock().unwrap();
    assert_eq!(taken.len(), 4);
    let ids: BTreeSet<_> = taken
        .iter()
        .map(|(headers, _)| headers["x-stellaops-delivery"].to_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 1);
    assert!(
        taken
            .iter()
            .all(|(headers, _)| !headers.contains_key("x-stellaops-signature"))
    );
}

#[test]
fn waits_grow_and_a_clock_that_was_set_back_makes_none_longer() {
    let store = Arc::new(Kept::default());
    let mut notifier = notifier(&store);
    notifier.waits = WAITS;
    let waits: Vec<_> = (1..9).map(|at| notifier.wait_after(at).as_secs()).collect();
    assert_eq!(waits, [10, 30, 60, 300, 900, 3600, 3600, 3600]);
    let config = config(&["{url: \"https://a.test/x\", on: [failed]}"]);
    let mut delivery = kept(&config, RunStatus::Failed).all().remove(0);
    let now = Timestamp::now();
    for (seconds, left) in [(-5, 0), (0, 0), (30, 30), (3600, 3600), (86_400, 0)] {
        delivery.due = now + SignedDuration::from_secs(seconds);
        assert_eq!(notifier.time_left(&delivery, now).as_secs(), left);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Receiver::start([]).await;
    let receiver = Receiver::start([Answer::Redirect(other.url.clone())]).await;
    let hook = format!("{{url: \"{}\", on: [failed]}}", receiver.url);
    let store = kept(&config(&[&hook]), RunStatus::Failed);
    until(&notifier(&store), config(&[&hook]), || {
        store.all().is_empty()
    })
    .await;
    assert_eq!((receiver.taken(), other.taken()), (2, 0));
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_no_other() {
    let hanging = Receiver::start([Answer::Never]).await;
    let receiver = Receiver::start([]).await;
    let hooks = [&hanging, &receiver].map(|of| format!("{{url: \"{}\", on: [failed]}}", of.url));
    let config = config(&[&hooks[0], &hooks[1]]);
    let store = kept(&config, RunStatus::Failed);
    until(&notifier(&store), config, || receiver.taken() == 1).await;
    assert_eq!(store.all().len(), 1, "what hangs is kept");
}

#[tokio::test]
async fn a_webhook_that_is_configured_no_more_is_told_nothing() {
    let receiver = Receiver::start([]).await;
    let hook = format!("{{url: \"{}\", on: [failed]}}", receiver.url);
    let store = kept(&config(&[&hook]), RunStatus::Failed);
    until(&notifier(&store), config(&[]), || store.all().is_empty()).await;
    assert_eq!(receiver.taken(), 0);
}

#[tokio::test]
async fn a_failed_attempt_names_neither_the_url_nor_the_secret() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let hook = format!("{{url: \"http://{address}/T0/hunter2\", on: [failed]}}");
    let config = config(&[&hook]);
    let store = kept(&config, RunStatus::Failed);
    let (_, job) = config.jobs.iter().next().unwrap();
    let failed = notifier(&store).send(&job.notify[0], &store.all()[0]).await;
    let reason = failed.unwrap_err();
    assert!(
        reason.contains("refused") && !reason.contains("hunter2"),
        "{reason}"
    );
}
