//! Hands the evidence that this gateway found to relayers, who report it to the Court.
//!
//! A gateway holds no account that could. Evidence is in the database before it is handed on, and how far each relayer got it is
//! kept there too, so a crash, a relayer that is down and one that is added later miss nothing. A relayer judges for itself; what
//! it says is not believed beyond what to send next.
//!
//! Only a refusal that no block can change ends it. What a relayer does not see on the chain it may see later: its node is behind, or
//! was answered by one that is. Such a file is sent again and again, less and less often, and holds no other up; after two weeks of
//! that it counts as refused, for no node is behind for so long.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use stkr_node::shutdown::Shutdown;
use url::Url;

use crate::metrics::GatewayMetrics;
use crate::store::{Row, Store, StoreError, Table};

/// Pause between two looks at the evidence, and before a relayer that did not take it is asked again.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest pause before what a relayer cannot judge yet is sent again.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Times that a relayer is sent what it cannot judge: with [`LONGEST_PAUSE`] between them two weeks. Of each relayer for itself, or one
/// that is added later, and is still behind, would never get what is old.
const MOST_TIMES: u32 = 2_016;
/// Longest time one file may take: a relayer judges one at a time, and lets others wait for it.
const PATIENCE: Duration = Duration::from_secs(35);
/// Of that, to be connected.
const CONNECT: Duration = Duration::from_secs(10);
/// Rows read at once.
const PAGE: u32 = 100;

/// Hands evidence on.
#[derive(Debug)]
pub struct Reporter {
    relayers: Vec<Url>,
    client: reqwest::Client,
    store: Store,
    metrics: GatewayMetrics,
}

/// How far a relayer is.
#[derive(Debug, Default)]
struct Progress {
    /// Evidence up to this id was sent; nothing before the first look.
    after: Option<u64>,
    /// What of that it could not judge, by id.
    put_off: BTreeMap<u64, PutOff>,
}

#[derive(Clone, Copy, Debug)]
struct PutOff {
    due: Instant,
    pause: Duration,
    /// How often it could not judge it.
    times: u32,
}

impl Progress {
    /// Up to here nothing has to be sent after a restart.
    fn is_done_up_to(&self) -> u64 {
        let first = self.put_off.first_key_value().map(|(id, _)| id.saturating_sub(1));
        first.or(self.after).unwrap_or_default()
    }

    /// It is sent again after a pause, twice as long as the one before; whether it was sent often enough, and is over.
    fn put_off(&mut self, id: u64) -> bool {
        let before = self.put_off.get(&id);
        let pause = before.map_or(PAUSE, |it| (it.pause * 2).min(LONGEST_PAUSE));
        let times = before.map_or(0, |it| it.times) + 1;
        if times >= MOST_TIMES {
            self.put_off.remove(&id);
            return true;
        }
        self.put_off.insert(id, PutOff { due: Instant::now() + pause, pause, times });
        false
    }

    /// It is sent again soon, after others that are due: no word about it was heard.
    fn ask_soon(&mut self, id: u64) {
        if let Some(it) = self.put_off.get_mut(&id) {
            it.due = Instant::now() + PAUSE;
        }
    }

    /// What is to be sent again now, the longest due first.
    fn due(&self) -> Vec<u64> {
        let now = Instant::now();
        let mut due: Vec<_> =
            self.put_off.iter().filter(|(_, it)| it.due <= now).map(|(id, it)| (it.due, *id)).collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }
}

/// What a relayer says to a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It has it, or never will.
    Done,
    /// It cannot judge it now.
    NotNow,
    /// Nothing of use, or that it has no time (429), which says nothing about the file.
    Nothing,
}

impl Reporter {
    /// Reports from `store` to `relayers`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(relayers: Vec<Url>, store: Store, metrics: GatewayMetrics) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(PATIENCE).connect_timeout(CONNECT);
        let client = client.redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { relayers, client, store, metrics })
    }

    /// Until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let mut relayers: Vec<(&Url, Progress)> = self.relayers.iter().map(|url| (url, Progress::default())).collect();
        while !relayers.is_empty() {
            for (relayer, progress) in &mut relayers {
                if let Err(error) = self.hand_on(relayer, progress).await {
                    tracing::error!(error = %error, "evidence cannot be handed on");
                }
            }
            tokio::select! {
                _ = shutdown.wait() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// What this relayer has not got yet, oldest first, and then what was put off, until it takes no more now.
    async fn hand_on(&self, relayer: &Url, progress: &mut Progress) -> Result<(), StoreError> {
        let name = relayer.to_string();
        let mut after = match progress.after {
            Some(after) => after,
            None => self.on_disk(move |store| store.handed_on(&name)).await?,
        };
        progress.after = Some(after);
        loop {
            let page = self.on_disk(move |store| store.page(Table::Evidence, after, PAGE)).await?;
            if page.is_empty() {
                break;
            }
            for row in page {
                let said = self.give(relayer, &row).await;
                if said == Said::Nothing {
                    return Ok(());
                }
                after = row.id.parse().unwrap_or(u64::MAX);
                progress.after = Some(after);
                if said == Said::NotNow {
                    progress.put_off(after);
                }
                self.note(relayer, progress).await?;
                if said == Said::NotNow {
                    return Ok(());
                }
            }
        }
        for id in progress.due() {
            let page = self.on_disk(move |store| store.page(Table::Evidence, id.saturating_sub(1), 1)).await?;
            let row = page.into_iter().find(|row| row.id == id.to_string());
            let said = match &row {
                Some(row) => self.give(relayer, row).await,
                None => Said::Done,
            };
            match said {
                Said::Done => {}
                Said::NotNow => {
                    if progress.put_off(id) {
                        tracing::warn!(%relayer, id, "a relayer could not judge evidence for two weeks; it is not sent again");
                        self.note(relayer, progress).await?;
                    }
                    return Ok(());
                }
                Said::Nothing => {
                    progress.ask_soon(id);
                    return Ok(());
                }
            }
            progress.put_off.remove(&id);
            self.note(relayer, progress).await?;
        }
        Ok(())
    }

    async fn note(&self, relayer: &Url, progress: &Progress) -> Result<(), StoreError> {
        let (name, up_to) = (relayer.to_string(), progress.is_done_up_to());
        self.on_disk(move |store| store.set_handed_on(&name, up_to)).await
    }

    /// The writer of requests may hold the database while it waits for the disk.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.unwrap_or_else(|error| Err(StoreError::Row(error.to_string())))
    }

    /// Sends the row.
    async fn give(&self, relayer: &Url, row: &Row) -> Said {
        let file = row.envelopes.get(0).and_then(|envelope| envelope.get("evidence"));
        // Rows of an older version have no file.
        let Some(file) = file else { return Said::Done };
        let Ok(url) = relayer.join("v1/evidence") else { return Said::Done };
        let answer = self.client.post(url).json(file).send().await;
        let (word, said) = match &answer {
            Ok(answer) if answer.status().is_success() => ("taken", Said::Done),
            Ok(answer) if is_final(answer.status()) => ("refused", Said::Done),
            Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => ("unanswered", Said::NotNow),
            _ => ("unanswered", Said::Nothing),
        };
        self.metrics.handed_on.get_or_create(&[("outcome", word)]).inc();
        match answer {
            Ok(answer) if word == "refused" => {
                tracing::warn!(%relayer, id = row.id, status = answer.status().as_u16(), "a relayer refused evidence");
            }
            Err(error) => tracing::debug!(%relayer, error = %error.without_url(), "a relayer does not answer"),
            Ok(_) if said == Said::NotNow => {
                tracing::debug!(%relayer, id = row.id, "a relayer cannot judge evidence now; it is sent again");
            }
            Ok(_) => {}
        }
        said
    }
}

/// A refusal that the same file would get again.
fn is_final(status: StatusCode) -> bool {
    [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY].contains(&status)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http::StatusCode as Status;
    use axum::routing::post;
    use axum::{Json, Router};
    use serde_json::{Value, json};
    use stkr_node::database::Database;

    use super::*;
    use crate::store::SCHEMA;

    /// Evidence number 1 to `count`, as JSON that a relayer of the test tells apart.
    fn store_with(count: u64) -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let database = Arc::new(Database::open(&folder.path().join("gateway.sqlite"), &SCHEMA).unwrap());
        for number in 1..=count {
            let envelopes = json!([{ "evidence": { "number": number } }]).to_string();
            let sql = "INSERT INTO evidence (at, key_id, server_id, request, envelopes) VALUES (0, 1, 1, '{}', ?1)";
            database.lock().execute(sql, [envelopes]).unwrap();
        }
        (Store::new(database), folder)
    }

    /// A relayer that gives the scripted answers, then 200; the numbers it was sent.
    async fn relayer(script: Vec<u16>) -> (Url, Arc<Mutex<Vec<u64>>>) {
        let (seen, script) = (Arc::<Mutex<Vec<u64>>>::default(), Arc::new(Mutex::new(script.into_iter())));
        let log = seen.clone();
        let take = move |Json(file): Json<Value>| async move {
            log.lock().unwrap().push(file["number"].as_u64().unwrap());
            Status::from_u16(script.lock().unwrap().next().unwrap_or(200)).unwrap()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/evidence", post(take))).await });
        (url, seen)
    }

    fn reporter(relayers: &[&Url], store: &Store) -> Reporter {
        stkr_node::tls::install_provider().unwrap();
        let relayers = relayers.iter().map(|url| (*url).clone()).collect();
        Reporter::new(relayers, store.clone(), GatewayMetrics::default()).unwrap()
    }

    #[tokio::test]
    async fn a_relayer_gets_each_evidence_until_it_has_taken_or_refused_it_and_after_a_restart_only_what_is_left() {
        let (store, _folder) = store_with(4);
        let (url, seen) = relayer(vec![200, 422, 503]).await;
        reporter(&[&url], &store).hand_on(&url, &mut Progress::default()).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3], "it stops at the first that is not answered");
        // Another process goes on where that one was.
        reporter(&[&url], &store).hand_on(&url, &mut Progress::default()).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 3, 4]);
        reporter(&[&url], &store).hand_on(&url, &mut Progress::default()).await.unwrap();
        assert_eq!(seen.lock().unwrap().len(), 5, "nothing is left");
    }

    #[tokio::test]
    async fn a_relayer_that_is_down_holds_no_other_up_and_one_that_comes_later_gets_everything() {
        let (store, _folder) = store_with(3);
        let nobody = Url::parse("http://127.0.0.1:9").unwrap();
        let (url, seen) = relayer(vec![]).await;
        let reporter = reporter(&[&nobody, &url], &store);
        for relayer in &reporter.relayers {
            reporter.hand_on(relayer, &mut Progress::default()).await.unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
        let (later, seen) = relayer(vec![]).await;
        reporter.hand_on(&later, &mut Progress::default()).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn what_a_relayer_cannot_judge_yet_holds_no_other_evidence_up_and_is_sent_until_it_can() {
        let (store, _folder) = store_with(3);
        // Its node does not show the seats of the first one yet, and still does not when it is asked again.
        let (url, seen) = relayer(vec![503, 200, 200, 503]).await;
        let (reporter, mut progress) = (reporter(&[&url], &store), Progress::default());
        let is_due = |progress: &mut Progress| progress.put_off.values_mut().for_each(|it| it.due = Instant::now());
        for _ in 0..3 {
            reporter.hand_on(&url, &mut progress).await.unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3], "it is not asked without a pause");
        let name = url.to_string();
        assert_eq!(store.handed_on(&name).unwrap(), 0, "after a crash it is sent again");
        is_due(&mut progress);
        reporter.hand_on(&url, &mut progress).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 1]);
        assert_eq!(progress.put_off[&1].pause, PAUSE * 2, "less and less often");
        is_due(&mut progress);
        reporter.hand_on(&url, &mut progress).await.unwrap();
        reporter.hand_on(&url, &mut progress).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 1, 1], "taken");
        assert_eq!(store.handed_on(&name).unwrap(), 3);
    }

    /// Whoever floods a relayer would otherwise have it get each file ten minutes later, or never.
    #[tokio::test]
    async fn a_relayer_that_has_no_time_is_asked_again_soon_with_the_same_file() {
        let (store, _folder) = store_with(2);
        let (url, seen) = relayer(vec![429, 429, 429]).await;
        let (reporter, mut progress) = (reporter(&[&url], &store), Progress::default());
        for _ in 0..4 {
            assert!(progress.put_off.is_empty(), "no pause is doubled");
            reporter.hand_on(&url, &mut progress).await.unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), [1, 1, 1, 1, 2]);
        assert_eq!(store.handed_on(url.as_str()).unwrap(), 2);

        // The same where it was put off before.
        let (store, _folder) = store_with(1);
        let (url, seen) = relayer(vec![503, 429, 429]).await;
        let (reporter, mut progress) = (self::reporter(&[&url], &store), Progress::default());
        for _ in 0..4 {
            progress.put_off.values_mut().for_each(|it| it.due = Instant::now());
            reporter.hand_on(&url, &mut progress).await.unwrap();
            assert!(progress.put_off.values().all(|it| it.pause == PAUSE), "no pause is doubled");
        }
        assert_eq!((seen.lock().unwrap().len(), store.handed_on(url.as_str()).unwrap()), (4, 1));
    }

    #[tokio::test]
    async fn what_no_relayer_can_judge_is_not_sent_for_ever_and_what_one_could_not_is_sent_to_the_next() {
        let (store, _folder) = store_with(1);
        let (url, seen) = relayer(vec![503; 9]).await;
        let (later, given) = relayer(vec![]).await;
        let (reporter, mut progress) = (reporter(&[&url, &later], &store), Progress::default());
        reporter.hand_on(&url, &mut progress).await.unwrap();
        for left in [2, 1, 0] {
            assert_eq!(progress.put_off.len(), 1);
            assert_eq!(store.handed_on(url.as_str()).unwrap(), 0);
            progress.put_off.values_mut().for_each(|it| (it.due, it.times) = (Instant::now(), MOST_TIMES - 1 - left));
            reporter.hand_on(&url, &mut progress).await.unwrap();
        }
        assert!(progress.put_off.is_empty(), "it is over");
        assert_eq!(store.handed_on(url.as_str()).unwrap(), 1);
        reporter.hand_on(&url, &mut progress).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [1; 4]);
        reporter.hand_on(&later, &mut Progress::default()).await.unwrap();
        assert_eq!(*given.lock().unwrap(), [1]);
    }
}
