//! Asking at the right time, and how late the answers were.

use crate::network::World;
use crate::plan::Task;
use eyre::{Context, Result, ensure};
use reqwest::header::CONTENT_TYPE;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections that the driver opens to the gateway, as a validator client with many keys does.
const CONNECTIONS: usize = 256;

/// From now to `then`; nothing if it has passed.
pub(crate) fn until(then: SystemTime) -> Duration {
    then.duration_since(SystemTime::now()).unwrap_or_default()
}

/// An answered request: how long after its time it was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) kind: &'static str,
    pub(crate) late: Duration,
}

/// Plays the tasks (ordered by time); returns after `length` or when everything is answered, whichever is later.
pub(crate) async fn epoch(
    world: &World,
    plan: Vec<Task>,
    start: SystemTime,
    length: Duration,
) -> Result<Vec<Answered>> {
    let begin = Instant::now() + until(start);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut answers = JoinSet::new();
    for task in plan {
        let due = begin + task.at;
        tokio::time::sleep_until(due.into()).await;
        let (client, url) = (world.http.clone(), world.sign_url(task.validator)?);
        let places = Arc::clone(&places);
        answers.spawn(async move {
            let _place = places.acquire_owned().await?;
            ask(&client, &url, task.body).await.wrap_err(task.kind)?;
            Ok::<_, eyre::Report>(Answered { kind: task.kind, late: due.elapsed() })
        });
    }
    let mut all = Vec::new();
    while let Some(answered) = answers.join_next().await {
        all.push(answered??);
    }
    tokio::time::sleep_until((begin + length).into()).await;
    Ok(all)
}

/// One request that has to be signed.
pub(crate) async fn ask(client: &reqwest::Client, url: &str, body: String) -> Result<()> {
    let answer = client.post(url).header(CONTENT_TYPE, "application/json").body(body).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success() && text.contains("\"signature\":\"0x"), "{status}: {text}");
    Ok(())
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Latency {
    pub(crate) count: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Latency {
    /// Zeros for nothing.
    pub(crate) fn of(mut all: Vec<Duration>) -> Self {
        all.sort();
        let at = |percent: usize| {
            let rank = (all.len() * percent).div_ceil(100).saturating_sub(1);
            all.get(rank).map_or(0.0, |it| it.as_secs_f64() * 1e3)
        };
        Self { count: all.len(), p50: at(50), p99: at(99), max: at(100) }
    }

    pub(crate) fn by_kind(answers: &[Answered]) -> BTreeMap<&'static str, Self> {
        let mut kinds: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
        for answer in answers {
            kinds.entry(answer.kind).or_default().push(answer.late);
        }
        kinds.into_iter().map(|(kind, all)| (kind, Self::of(all))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let all = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(Latency::of(all), Latency { count: 200, p50: 100.0, p99: 198.0, max: 200.0 });
        assert_eq!(Latency::of(vec![]).max, 0.0);
    }
}
